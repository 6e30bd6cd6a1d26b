//! Settling: the orders of a batch become transactions. What comes out is what changed, order by
//! order, and which orders the database refuses; what follows from either is for others to do.

pub(crate) mod decision;
mod metrics;
mod parts;
mod transaction;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use backon::Retryable;
use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    envelope::Order,
    id::{Day, IdMint},
    order::Sku,
    retry,
};
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

pub(crate) use self::metrics::SettleMetrics;
use self::{
    decision::{Candidate, Verdict},
    parts::Parts,
    transaction::Committed,
};
use crate::{deliveries::Arrived, stock::Stock, store::StoreError};

/// How long one settle transaction may take before its connection counts as dead.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How long before midnight a repeat may bear the date of the next day: another process's clock may
/// be ahead, and a transaction may last until then. Midnight is where the order was accepted, or here,
/// whichever comes first: the worker's clock may be behind all of them.
const MIDNIGHT_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// Settles batches. There is one in a worker, and its partitions share it.
pub(crate) struct Settler {
    pub(crate) pool: PgPool,
    /// Knows under which other ids a purchase may have come in.
    pub(crate) mint: IdMint,
    /// Most orders in one transaction.
    pub(crate) orders_max: usize,
    pub(crate) metrics: SettleMetrics,
}

/// What became of the orders of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What was committed, a transaction each.
    pub(crate) settlements: Vec<Settlement>,
    /// What the database does not take, and never will.
    pub(crate) refused: Vec<Refused>,
}

/// What one transaction committed. Its rows are written from the same results, and so is the news.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// One for each order, in order of arrival.
    pub(crate) changes: Vec<Change>,
    /// The stock of every known SKU of the orders, after this settlement.
    pub(crate) stock: BTreeMap<Sku, Stock>,
    /// The time that every order and ledger entry of the settlement carries.
    pub(crate) at: DateTime<Utc>,
}

/// An order and what a settlement made of it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) order: Order,
    pub(crate) verdict: Verdict,
}

/// An order that cannot be settled.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) order: Order,
    /// What the database said.
    pub(crate) detail: String,
}

impl Settler {
    /// Brings every order to its verdict, in their sequence, however long the database is away.
    ///
    /// When the database refuses a part of them for what they are, it is halved until the culprit
    /// stands alone.
    pub(crate) async fn settle(&self, partition: u16, orders: Vec<Arrived>) -> Settled {
        let mut settled = Settled::default();
        let mut parts = Parts::of(orders.len());
        let mut orders = VecDeque::from(orders);
        while let Some(part) = parts.next(self.orders_max) {
            let candidates = &orders.make_contiguous()[..part];
            match self.settle_until_answered(partition, candidates).await {
                Ok(committed) => settled
                    .settlements
                    .push(Settlement::of(orders.drain(..part), committed)),
                Err(refusal) if part == 1 => {
                    let refused = |Arrived { order, .. }| Refused {
                        order,
                        detail: refusal.to_string(),
                    };
                    settled.refused.extend(orders.pop_front().map(refused));
                }
                Err(_) => parts.halve(part),
            }
        }
        settled
    }

    /// Settles orders, again and again while the trouble is not theirs.
    async fn settle_until_answered(
        &self,
        partition: u16,
        orders: &[Arrived],
    ) -> Result<Committed, StoreError> {
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

    async fn attempt(&self, partition: u16, orders: &[Arrived]) -> Result<Committed, StoreError> {
        let started = Instant::now();
        let candidates = self.candidates(orders);
        let mut connection = self.pool.acquire().await?;
        let settling = transaction::settle(&mut connection, &candidates, &self.metrics.row_lock);
        let Ok(committed) = timeout(SETTLE_MAX, settling).await else {
            // Whether it was committed is not known; the next attempt finds out by reading.
            connection.close_on_drop();
            return Err(StoreError::NoAnswer(SETTLE_MAX));
        };
        let committed = committed?;
        drop(connection);
        self.metrics.settle.record(started.elapsed());
        self.metrics.count(orders, &committed);
        tracing::debug!(
            partition,
            orders = orders.len(),
            row_writes = committed.row_writes,
            "settled"
        );
        Ok(committed)
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
}

impl Settlement {
    fn of(orders: impl Iterator<Item = Arrived>, committed: Committed) -> Self {
        let changes = orders.zip(committed.verdicts);
        Self {
            changes: changes
                .map(|(Arrived { order, .. }, verdict)| Change { order, verdict })
                .collect(),
            stock: committed.stock,
            at: committed.at,
        }
    }
}
