//! The events of a settlement that is still in memory.

use hotrow_shared::{envelope::Command, outcome::Status, publish::PublishError};

use super::sender::Sender;
use crate::{
    document::document,
    settle::{Decided, Settlement, decision::Verdict},
};

/// Writes the events of a settlement, but for those of payments that did not pay. Returns whether it has such.
pub(super) async fn write(
    settlement: &Settlement,
    tells_rejected: bool,
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
            (Command::Place(_), Verdict::Settled(outcome))
                if outcome.status == Status::Rejected && !tells_rejected => {}
            (Command::Place(order), Verdict::Settled(outcome)) => {
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
