//! The events of a settlement that is still in memory.

use hotrow_shared::{envelope::Command, publish::PublishError};

use super::sender::Sender;
use crate::{
    document::document,
    settle::{Decided, Settlement, decision::Verdict},
    telling::{Telling, type_of},
};

/// Writes the events of a settlement, but for those of payments that did not pay. Returns whether it has such.
pub(super) async fn write(
    settlement: &Settlement,
    telling: Telling,
    sender: &mut Sender,
) -> Result<bool, PublishError> {
    let mut has_unmatched = false;
    let Settlement {
        decided,
        stock,
        at,
        told,
    } = settlement;
    for Decided { command, verdict } in decided {
        match (command, verdict) {
            (Command::Place(order), Verdict::Settled(outcome))
                if telling.wants(type_of(outcome.status, false)) =>
            {
                let document = document(order, *outcome, stock, *at);
                sender.order(outcome.status, false, document).await?;
            }
            (Command::Change(_), Verdict::Changed(standing, _)) => {
                sender
                    .order(standing.status, true, standing.document())
                    .await?;
            }
            (_, Verdict::Unmatched(_)) => has_unmatched = true,
            _ => {}
        }
    }
    for changed in told.iter().flat_map(|told| &told.inventory) {
        sender.inventory(changed, *at).await?;
    }
    Ok(has_unmatched)
}
