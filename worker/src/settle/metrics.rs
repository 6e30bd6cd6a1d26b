//! What a settlement counts.

use std::collections::BTreeMap;

use hotrow_shared::{
    envelope::Command,
    metrics as list,
    outcome::{Reason, Status},
};
use metrics::{Counter, Histogram};

use super::{decision::Verdict, transaction::Committed};
use crate::{deliveries::Arrived, metrics::Labelled, store::RetryCause};

type StatusAndReason = (Status, Option<Reason>);

const OUTCOMES: [StatusAndReason; 9] = [
    (Status::Confirmed, None),
    (Status::Reserved, None),
    (Status::Rejected, Some(Reason::SoldOut)),
    (Status::Rejected, Some(Reason::UnknownSku)),
    (Status::Rejected, Some(Reason::CurrencyMismatch)),
    (Status::Rejected, Some(Reason::PriceChanged)),
    (Status::Rejected, Some(Reason::Closed)),
    (Status::Rejected, Some(Reason::NotOpen)),
    (Status::Rejected, Some(Reason::LimitReached)),
];

/// What was asked, and what came of it.
type AskAndAnswer = (&'static str, &'static str);

const ASKS: [&str; 4] = ["confirm", "cancel", "extend", "expire"];
const ANSWERS: [&str; 4] = ["changed", "unchanged", "conflict", "unmatched"];

fn changes() -> impl Iterator<Item = AskAndAnswer> {
    ASKS.into_iter()
        .flat_map(|ask| ANSWERS.map(|answer| (ask, answer)))
        .filter(|(ask, answer)| *answer != "unmatched" || *ask == "confirm")
}

fn answer(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Changed(..) => "changed",
        Verdict::Conflict => "conflict",
        Verdict::Unmatched(_) => "unmatched",
        _ => "unchanged",
    }
}

/// How an order came in twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duplicate {
    /// The broker delivered it again after a crash or a hand-over.
    Redelivered,
    /// The client sent its idempotency key again.
    RepeatedKey,
}

impl Duplicate {
    const ALL: [Self; 2] = [Self::Redelivered, Self::RepeatedKey];

    /// A replayed dead letter without a key counts as redelivered.
    fn of(arrived: &Arrived) -> Self {
        let is_keyed = matches!(&arrived.command, Command::Place(order) if order.key.is_some());
        if is_keyed && !arrived.redelivered {
            Self::RepeatedKey
        } else {
            Self::Redelivered
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Redelivered => "redelivered",
            Self::RepeatedKey => "repeated_key",
        }
    }
}

/// The handles of a worker's settlements.
pub(super) struct SettleMetrics {
    settled: Labelled<StatusAndReason, Counter>,
    duplicates: Labelled<Duplicate, Counter>,
    retries: Labelled<RetryCause, Counter>,
    order_age: Histogram,
    row_writes: Counter,
    changes: Labelled<AskAndAnswer, Counter>,
    pub(super) settle: Histogram,
    pub(super) row_lock: Histogram,
}

impl SettleMetrics {
    /// Creates every series.
    pub(super) fn new() -> Self {
        Self {
            settled: Labelled::new(OUTCOMES, |(status, reason)| {
                list::ORDERS_SETTLED.counter(&[
                    ("status", status.as_str()),
                    ("reason", reason.map_or("", Reason::as_str)),
                ])
            }),
            duplicates: Labelled::new(Duplicate::ALL, |kind| {
                list::ORDERS_DUPLICATE.counter(&[("kind", kind.as_str())])
            }),
            retries: Labelled::new(RetryCause::ALL, |cause| {
                list::SETTLE_RETRIES.counter(&[("cause", cause.as_str())])
            }),
            order_age: list::ORDER_AGE.histogram(&[]),
            row_writes: list::ROW_WRITES.counter(&[]),
            changes: Labelled::new(changes(), |(kind, answer)| {
                list::ORDER_CHANGES.counter(&[("kind", kind), ("answer", answer)])
            }),
            settle: list::SETTLE.histogram(&[]),
            row_lock: list::ROW_LOCK.histogram(&[]),
        }
    }

    /// Counts a transaction that is tried again.
    pub(super) fn retry(&self, cause: RetryCause) {
        if let Some(retries) = self.retries.of(cause) {
            retries.increment(1);
        }
    }

    /// Counts what was committed.
    pub(super) fn count(&self, commands: &[Arrived], committed: &Committed) {
        self.row_writes.increment(committed.row_writes);
        let mut outcomes: BTreeMap<_, (StatusAndReason, u64)> = BTreeMap::new();
        for (arrived, verdict) in commands.iter().zip(&committed.verdicts) {
            if let Command::Change(change) = &arrived.command {
                if let Some(changes) = self.changes.of((change.ask.as_str(), answer(verdict))) {
                    changes.increment(1);
                }
                continue;
            }
            let Verdict::Settled(outcome) = verdict else {
                if let Some(duplicates) = self.duplicates.of(Duplicate::of(arrived)) {
                    duplicates.increment(1);
                }
                continue;
            };
            let age_ms = committed.at.timestamp_millis() - arrived.command.accepted_ms();
            #[expect(
                clippy::cast_precision_loss,
                reason = "a whole number of milliseconds far below 2^52"
            )]
            self.order_age.record(age_ms.max(0) as f64 / 1_000.0);
            let key = (outcome.status.as_str(), outcome.reason.map(Reason::as_str));
            let counted = outcomes
                .entry(key)
                .or_insert(((outcome.status, outcome.reason), 0));
            counted.1 += 1;
        }
        for (outcome, orders) in outcomes.into_values() {
            if let Some(settled) = self.settled.of(outcome) {
                settled.increment(orders);
            }
        }
    }
}
