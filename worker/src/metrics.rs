//! The worker's series, made once at start so that each exists at zero.

use hotrow_shared::{
    metrics as list,
    outcome::{Reason, Status},
};
use metrics::{Counter, Histogram};

use crate::{batch::ClosedBy, dead_letters::DeadReason, settle::store::RetryCause};

/// Handles for everything that a worker counts.
pub struct WorkerMetrics {
    settled: Vec<(Status, Option<Reason>, Counter)>,
    batch_orders: Vec<(ClosedBy, Histogram)>,
    duplicates: [(Duplicate, Counter); 2],
    dead_letters: Vec<(DeadReason, Counter)>,
    retries: Vec<(RetryCause, Counter)>,
    /// Accept to settle.
    pub order_age: Histogram,
    /// One settle transaction.
    pub settle: Histogram,
    /// Inventory rows written.
    pub row_writes: Counter,
    /// Lock to commit.
    pub row_lock: Histogram,
}

/// How an order came in twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicate {
    /// The broker delivered it again after a crash or a hand-over.
    Redelivered,
    /// The client sent its idempotency key again.
    RepeatedKey,
}

const OUTCOMES: [(Status, Option<Reason>); 5] = [
    (Status::Confirmed, None),
    (Status::Rejected, Some(Reason::SoldOut)),
    (Status::Rejected, Some(Reason::UnknownSku)),
    (Status::Rejected, Some(Reason::CurrencyMismatch)),
    (Status::Failed, Some(Reason::DeadLettered)),
];

impl WorkerMetrics {
    /// Creates every series.
    #[must_use]
    pub fn new() -> Self {
        let settled = |(status, reason): (Status, Option<Reason>)| {
            let labels = [
                ("status", status.as_str()),
                ("reason", reason.map_or("", Reason::as_str)),
            ];
            (status, reason, list::ORDERS_SETTLED.counter(&labels))
        };
        let duplicate = |kind, name| (kind, list::ORDERS_DUPLICATE.counter(&[("kind", name)]));
        Self {
            settled: OUTCOMES.into_iter().map(settled).collect(),
            batch_orders: ClosedBy::ALL
                .map(|by| {
                    (
                        by,
                        list::BATCH_ORDERS.histogram(&[("closed_by", by.as_str())]),
                    )
                })
                .into(),
            duplicates: [
                duplicate(Duplicate::Redelivered, "redelivered"),
                duplicate(Duplicate::RepeatedKey, "repeated_key"),
            ],
            dead_letters: DeadReason::ALL
                .map(|reason| {
                    (
                        reason,
                        list::DEAD_LETTERS.counter(&[("reason", reason.as_str())]),
                    )
                })
                .into(),
            retries: RetryCause::ALL
                .map(|cause| {
                    (
                        cause,
                        list::SETTLE_RETRIES.counter(&[("cause", cause.as_str())]),
                    )
                })
                .into(),
            order_age: list::ORDER_AGE.histogram(&[]),
            settle: list::SETTLE.histogram(&[]),
            row_writes: list::ROW_WRITES.counter(&[]),
            row_lock: list::ROW_LOCK.histogram(&[]),
        }
    }

    /// Counts orders with one outcome.
    pub fn settled(&self, status: Status, reason: Option<Reason>, orders: u64) {
        if let Some((.., counter)) = self
            .settled
            .iter()
            .find(|(s, r, _)| (*s, *r) == (status, reason))
        {
            counter.increment(orders);
        }
    }

    /// Notes the size of a batch.
    pub fn batch(&self, closed_by: ClosedBy, orders: usize) {
        if let Some((_, histogram)) = self.batch_orders.iter().find(|(by, _)| *by == closed_by) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a batch has at most 100,000 orders"
            )]
            histogram.record(orders as f64);
        }
    }

    /// Counts an order that was settled before.
    pub fn duplicate(&self, kind: Duplicate) {
        count(&self.duplicates, kind);
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, reason: DeadReason) {
        count(&self.dead_letters, reason);
    }

    /// Counts a transaction that is tried again.
    pub fn retry(&self, cause: RetryCause) {
        count(&self.retries, cause);
    }
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn count<L: Copy + PartialEq>(counters: &[(L, Counter)], label: L) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == label) {
        counter.increment(1);
    }
}
