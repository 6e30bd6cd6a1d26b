//! The commands of a settlement, with what has to be looked up for each.

use chrono::{TimeDelta, Utc};
use hotrow_shared::{
    change::Change,
    envelope::{Command, Order},
    id::{Day, IdMint, OrderId},
};

use super::decision::{Candidate, Verdict};
use crate::{deliveries::Arrived, document::Outcome};

/// How long before midnight a repeat may bear the date of the next day: another process's clock may
/// be ahead, and a transaction may last until then. Midnight is where the order was accepted, or here,
/// whichever comes first: the worker's clock may be behind all of them.
const MIDNIGHT_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// The commands of a settlement, in order of arrival.
pub(crate) struct Candidates<'a>(pub(crate) Vec<Candidate<'a>>);

impl<'a> Candidates<'a> {
    /// The commands, new orders with the other ids that they may have come in under.
    pub(crate) fn of(commands: &'a [Arrived], mint: &IdMint) -> Self {
        let accepted_ms = commands.iter().map(|arrived| arrived.command.accepted_ms());
        let newest_ms = accepted_ms.fold(Utc::now().timestamp_millis(), i64::max);
        let latest_ms = newest_ms.saturating_add(MIDNIGHT_MARGIN.num_milliseconds());
        let latest = Day::of_ms(u64::try_from(latest_ms).unwrap_or_default());
        let candidate = |arrived: &'a Arrived| match &arrived.command {
            Command::Place(order) => {
                let twins = order.key.as_ref().map(|key| {
                    mint.twins(order.id, &order.customer_id, key, latest)
                        .collect()
                });
                Candidate::Place {
                    order,
                    twins: twins.unwrap_or_default(),
                }
            }
            Command::Change(change) => Candidate::Change(change),
        };
        Self(commands.iter().map(candidate).collect())
    }

    /// Every name under which a new order may be settled already.
    pub(crate) fn names(&self) -> impl Iterator<Item = &OrderId> {
        self.0.iter().flat_map(|candidate| match candidate {
            Candidate::Place { order, twins } => twins.iter().chain(Some(&order.id)),
            Candidate::Change(_) => [].iter().chain(None),
        })
    }

    /// The days whose tables are written to. A later name of an order is a row, too.
    pub(crate) fn days(&self) -> impl Iterator<Item = Day> {
        self.0.iter().flat_map(|candidate| {
            let (id, twins) = match candidate {
                Candidate::Place { order, twins } => (order.id, twins.as_slice()),
                Candidate::Change(change) => (change.order_id, &[][..]),
            };
            let names = twins.iter().map(|twin| twin.day());
            names.filter(move |name| *name > id.day()).chain([id.day()])
        })
    }

    /// New orders.
    pub(crate) fn orders(&self) -> impl Iterator<Item = &'a Order> {
        self.0.iter().filter_map(|candidate| match candidate {
            Candidate::Place { order, .. } => Some(*order),
            Candidate::Change(_) => None,
        })
    }

    /// What is asked of settled orders.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &'a Change> {
        self.0.iter().filter_map(|candidate| match candidate {
            Candidate::Change(change) => Some(*change),
            Candidate::Place { .. } => None,
        })
    }

    /// The same, with what became of it.
    pub(crate) fn changes_with<'v>(
        &self,
        verdicts: &'v [Verdict],
    ) -> impl Iterator<Item = (&'a Change, &'v Verdict)> {
        let all = self.0.iter().zip(verdicts);
        all.filter_map(|(candidate, verdict)| match candidate {
            Candidate::Change(change) => Some((*change, verdict)),
            Candidate::Place { .. } => None,
        })
    }

    /// New orders that have their first outcome now.
    pub(crate) fn settled<'v>(
        &self,
        verdicts: &'v [Verdict],
    ) -> impl Iterator<Item = (&'a Order, &'v Outcome)> {
        let all = self.0.iter().zip(verdicts);
        all.filter_map(|(candidate, verdict)| match (candidate, verdict) {
            (Candidate::Place { order, .. }, Verdict::Settled(outcome)) => Some((*order, outcome)),
            _ => None,
        })
    }
}
