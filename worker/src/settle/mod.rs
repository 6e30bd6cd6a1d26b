//! Settling: a batch becomes one transaction, and nothing leaves here before it is committed or
//! lies in the dead-letter queue.

pub mod decision;
pub mod store;
pub mod transaction;

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use backon::Retryable;
use chrono::{TimeDelta, Utc};
use hotrow_shared::{
    envelope::Order,
    id::{Day, IdMint, OrderId},
    outcome::{Reason, Status},
    retry,
};
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

use self::{
    decision::Candidate,
    store::StoreError,
    transaction::{Settlement, outcome},
};
use crate::{
    batch::Batch,
    dead_letters::{DeadLetter, DeadLetters},
    deliveries::Arrived,
    document::{PricedItems, accepted_at},
    metrics::{Duplicate, WorkerMetrics},
};

/// How long one settle transaction may take before its connection counts as dead.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How long before midnight a repeat may bear the date of the next day: another process's clock may
/// be ahead, and a transaction may last until then. Midnight is where the order was accepted, or here,
/// whichever comes first: the worker's clock may be behind all of them.
const MIDNIGHT_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// Settles batches. There is one in a worker, and its partitions share it.
pub struct Settler {
    /// Where orders are settled.
    pub pool: PgPool,
    /// Knows under which other ids a purchase may have come in.
    pub mint: IdMint,
    /// Most orders in one transaction.
    pub orders_max: usize,
    /// Where what cannot be settled goes.
    pub dead_letters: DeadLetters,
    /// What is counted.
    pub metrics: Arc<WorkerMetrics>,
}

/// A batch that has come to its end.
#[derive(Debug)]
pub struct Settled {
    /// Whose it was.
    pub partition: u16,
    /// Its orders, in order of arrival.
    pub orders: Vec<Arrived>,
    /// What was committed, each with the part of the orders that it is about.
    pub settlements: Vec<(Range<usize>, Settlement)>,
    /// Orders that went to the dead letters and are marked as failed.
    pub failed: Vec<OrderId>,
}

impl Settler {
    /// Brings every order of a batch to its end, in their sequence, however long the servers are away.
    ///
    /// When the database refuses a part of them for what they are, it is halved until the culprit
    /// stands alone and is dead-lettered.
    pub async fn settle(&self, partition: u16, batch: Batch) -> Settled {
        self.metrics.batch(batch.closed_by, batch.orders.len());
        for piece in &batch.unreadable {
            self.dead_letters
                .bury(&DeadLetter::unreadable(partition, piece))
                .await;
        }
        let orders = batch.orders;
        let (mut settlements, mut failed) = (Vec::new(), Vec::new());
        let mut parts = parts(orders.len(), self.orders_max);
        while let Some(part) = parts.pop() {
            match self
                .settle_until_answered(partition, &orders[part.clone()])
                .await
            {
                Ok(settlement) => settlements.push((part, settlement)),
                Err(refusal) if part.len() == 1 => {
                    let order = &orders[part.start].order;
                    failed.extend(self.bury(partition, order, &refusal).await);
                }
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
            }
        }
        Settled {
            partition,
            orders,
            settlements,
            failed,
        }
    }

    /// Settles orders, again and again while the trouble is not theirs.
    async fn settle_until_answered(
        &self,
        partition: u16,
        orders: &[Arrived],
    ) -> Result<Settlement, StoreError> {
        let attempt = || self.attempt(partition, orders);
        attempt
            .retry(retry::for_ever())
            .when(|error| error.retry_cause().is_some())
            .notify(|error, pause| {
                if let Some(cause) = error.retry_cause() {
                    self.metrics.retry(cause);
                }
                tracing::warn!(partition, orders = orders.len(), ?pause, %error, "settling is tried again");
            })
            .await
    }

    async fn attempt(&self, partition: u16, orders: &[Arrived]) -> Result<Settlement, StoreError> {
        let started = Instant::now();
        let candidates = self.candidates(orders);
        let mut connection = self.pool.acquire().await?;
        let settling = transaction::settle(&mut connection, &candidates, &self.metrics.row_lock);
        let Ok(settlement) = timeout(SETTLE_MAX, settling).await else {
            // Whether it was committed is not known; the next attempt finds out by reading.
            connection.close_on_drop();
            return Err(StoreError::NoAnswer(SETTLE_MAX));
        };
        let settlement = settlement?;
        drop(connection);
        self.metrics.settle.record(started.elapsed());
        self.count(orders, &settlement);
        tracing::debug!(
            partition,
            orders = orders.len(),
            row_writes = settlement.row_writes,
            "settled"
        );
        Ok(settlement)
    }

    /// The orders with the other ids to look for.
    fn candidates<'a>(&self, orders: &'a [Arrived]) -> Vec<Candidate<'a>> {
        let accepted_ms = orders.iter().map(|arrived| arrived.order.accepted_ms);
        let newest_ms = accepted_ms.fold(Utc::now().timestamp_millis(), i64::max);
        let latest_ms = newest_ms.saturating_add(MIDNIGHT_MARGIN.num_milliseconds());
        let latest = Day::of_ms(u64::try_from(latest_ms).unwrap_or_default());
        let candidate = |Arrived { order, .. }: &'a Arrived| {
            let twins = order.key.as_ref().map(|key| {
                self.mint
                    .twins(order.id, &order.customer_id, key, latest)
                    .collect()
            });
            Candidate {
                order,
                twins: twins.unwrap_or_default(),
            }
        };
        orders.iter().map(candidate).collect()
    }

    fn count(&self, orders: &[Arrived], settlement: &Settlement) {
        self.metrics.row_writes.increment(settlement.row_writes);
        let mut outcomes: BTreeMap<_, (_, u64)> = BTreeMap::new();
        for (arrived, verdict) in orders.iter().zip(&settlement.verdicts) {
            let Some((status, reason)) = outcome(*verdict) else {
                self.metrics.duplicate(duplicate(arrived));
                continue;
            };
            let age_ms = settlement.at.timestamp_millis() - arrived.order.accepted_ms;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a whole number of milliseconds far below 2^52"
            )]
            self.metrics
                .order_age
                .record(age_ms.max(0) as f64 / 1_000.0);
            outcomes
                .entry((status.as_str(), reason.map(Reason::as_str)))
                .or_insert(((status, reason), 0))
                .1 += 1;
        }
        for ((status, reason), orders) in outcomes.into_values() {
            self.metrics.settled(status, reason, orders);
        }
    }

    /// Sends an order that the database refuses to the dead letters and marks it as failed. Gives its
    /// id, if that was possible.
    ///
    /// In this sequence: a crash in between leaves a second dead letter, which changes nothing when it
    /// is replayed, instead of a failed order that nobody can replay.
    async fn bury(&self, partition: u16, order: &Order, refusal: &StoreError) -> Option<OrderId> {
        self.dead_letters
            .bury(&DeadLetter::refused(partition, order, refusal))
            .await;
        let mark = || self.mark_failed(order);
        let marked = mark
            .retry(retry::for_ever())
            .when(|error| error.retry_cause().is_some())
            .await;
        if let Err(error) = marked {
            tracing::error!(order_id = %order.id, %error, "a dead letter cannot be marked as failed: its order reads queued");
            return None;
        }
        self.metrics
            .settled(Status::Failed, Some(Reason::DeadLettered), 1);
        Some(order.id)
    }

    /// Marks an order as failed, if need be without the parts that the database may have refused.
    async fn mark_failed(&self, order: &Order) -> Result<(), StoreError> {
        let unpriced = PricedItems {
            items: &order.items,
            stock: &BTreeMap::new(),
        }
        .json();
        let id = order.id.uuid();
        let accepted_at = accepted_at(order);
        match store::write_failed(
            &self.pool,
            id,
            order.customer_id.as_str(),
            &unpriced,
            accepted_at,
        )
        .await
        {
            Err(StoreError::Refused(_)) => {
                store::write_failed(&self.pool, id, "", "[]", accepted_at).await
            }
            marked => marked,
        }
    }
}

/// So many orders in transactions of at most `orders_max`, the first of them last: a single envelope may
/// hold more than a batch may, if the settings of the processes differ.
fn parts(orders: usize, orders_max: usize) -> Vec<Range<usize>> {
    let starts = (0..orders).step_by(orders_max);
    starts
        .map(|start| start..orders.min(start + orders_max))
        .rev()
        .collect()
}

/// How an order came in twice. A replayed dead letter without a key counts as redelivered.
fn duplicate(arrived: &Arrived) -> Duplicate {
    if arrived.order.key.is_some() && !arrived.redelivered {
        Duplicate::RepeatedKey
    } else {
        Duplicate::Redelivered
    }
}
