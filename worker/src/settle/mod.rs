//! Settling: the orders of a batch become transactions. What comes out is what changed, order by
//! order, and which orders the database refuses; what follows from either is for others to do.

pub(crate) mod decision;
mod metrics;
mod parts;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    envelope::Order,
    id::{Day, IdMint},
    order::Sku,
    request_id::RequestId,
    retry::Pauses,
};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::{
    decision::{Candidate, Verdict},
    metrics::SettleMetrics,
    parts::{PartSize, Parts},
    transaction::Committed,
};
use crate::{
    days,
    deliveries::Arrived,
    stock::Stock,
    store::{RetryCause, StoreError},
};

/// How long one settle transaction may take before its connection counts as dead.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How long before midnight a repeat may bear the date of the next day: another process's clock may
/// be ahead, and a transaction may last until then. Midnight is where the order was accepted, or here,
/// whichever comes first: the worker's clock may be behind all of them.
const MIDNIGHT_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// Days ahead of today that a table is made for when an order needs it: clocks may differ, and an id that
/// is further ahead than this is forged or of a clock that is wrong.
const DAYS_AHEAD_MAX: u64 = 8;

/// Settles batches. There is one in a worker, and its partitions share it.
pub(crate) struct Settler {
    pool: PgPool,
    /// Knows under which other ids a purchase may have come in.
    mint: IdMint,
    /// Days that orders are kept.
    retention_days: u64,
    part_size: Mutex<PartSize>,
    metrics: SettleMetrics,
}

/// What became of the orders of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What was committed, a transaction each.
    pub(crate) settlements: Vec<Settlement>,
    /// What the database does not take, and never will.
    pub(crate) refused: Vec<Refused>,
    /// Whether some orders were not settled because their time after the stop was over.
    pub(crate) is_cut_short: bool,
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

/// Why a part of a batch was not settled.
enum Unsettled {
    /// The database does not take one of its orders.
    Refused(StoreError),
    /// It took too long.
    TimedOut,
    /// There is no more time for it.
    CutShort,
}

impl Settler {
    /// Creates every series.
    pub(crate) fn new(pool: PgPool, mint: IdMint, retention_days: u64, orders_max: usize) -> Self {
        Self {
            pool,
            mint,
            retention_days,
            part_size: Mutex::new(PartSize::new(orders_max)),
            metrics: SettleMetrics::new(),
        }
    }

    /// Brings every order to its verdict, in their sequence, however long the database is away.
    ///
    /// When the database refuses a part of them for what they are, it is halved until the culprit
    /// stands alone. Once `overdue`, an order that waits for anything but a server that is away is left
    /// to the broker, which has it safely.
    pub(crate) async fn settle(
        &self,
        partition: u16,
        orders: Vec<Arrived>,
        overdue: &CancellationToken,
    ) -> Settled {
        let mut settled = Settled::default();
        let mut parts = Parts::of(orders.len());
        let mut orders = VecDeque::from(orders);
        let orders_max = || self.part_size().now();
        while let Some(part) = parts.next(orders_max()) {
            let candidates = &orders.make_contiguous()[..part];
            match self.settle_part(partition, candidates, overdue).await {
                Ok(committed) => settled
                    .settlements
                    .push(Settlement::of(orders.drain(..part), committed)),
                Err(Unsettled::Refused(refusal)) if part == 1 => {
                    let refused = |Arrived { order, .. }| Refused {
                        order,
                        detail: refusal.to_string(),
                    };
                    settled.refused.extend(orders.pop_front().map(refused));
                }
                Err(Unsettled::Refused(_)) => parts.halve(part),
                Err(Unsettled::TimedOut) => parts.put_back(part),
                Err(Unsettled::CutShort) => {
                    settled.is_cut_short = true;
                    break;
                }
            }
        }
        settled
    }

    /// Settles orders, again and again while the trouble is not theirs.
    async fn settle_part(
        &self,
        partition: u16,
        orders: &[Arrived],
        overdue: &CancellationToken,
    ) -> Result<Committed, Unsettled> {
        let mut pauses = Pauses::new();
        loop {
            let error = match self.attempt(partition, orders, overdue).await {
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            };
            let Some(cause) = error.retry_cause() else {
                return Err(Unsettled::Refused(error));
            };
            if cause == RetryCause::MissingDay {
                // Boxed, because it is large and rare.
                let made = overdue.run_until_cancelled(Box::pin(self.make_days(orders)));
                match made.await {
                    Some(Ok(false)) => return Err(Unsettled::Refused(error)),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the days of orders and ledger cannot be made");
                    }
                    Some(Ok(true)) | None => {}
                }
            }
            if overdue.is_cancelled() && !cause.is_server_away() {
                tracing::warn!(partition, orders = orders.len(), %error, "orders are left to the broker");
                return Err(Unsettled::CutShort);
            }
            self.metrics.retry(cause);
            tracing::warn!(partition, orders = orders.len(), %error, "settling is tried again");
            if cause == RetryCause::Timeout && orders.len() > 1 {
                self.part_size().timed_out(orders.len());
                return Err(Unsettled::TimedOut);
            }
            if overdue.is_cancelled() {
                pauses.pause().await;
            } else {
                overdue.run_until_cancelled(pauses.pause()).await;
            }
        }
    }

    async fn attempt(
        &self,
        partition: u16,
        orders: &[Arrived],
        overdue: &CancellationToken,
    ) -> Result<Committed, StoreError> {
        let started = Instant::now();
        let candidates = self.candidates(orders);
        let mut connection = self.pool.acquire().await?;
        let settling = transaction::settle(&mut connection, &candidates, &self.metrics.row_lock);
        let committed = tokio::select! {
            committed = settling => Some(committed),
            () = sleep(SETTLE_MAX) => None,
            () = overdue.cancelled() => None,
        };
        let Some(committed) = committed else {
            // Whether it was committed is not known; the next attempt finds out by reading.
            connection.close_on_drop();
            return Err(StoreError::NoAnswer(started.elapsed()));
        };
        let committed = committed?;
        drop(connection);
        let took = started.elapsed();
        self.part_size().settled(orders.len(), took, SETTLE_MAX);
        self.metrics.settle.record(took);
        self.metrics.count(orders, &committed);
        log(partition, orders, &committed);
        Ok(committed)
    }

    /// Makes the tables of these orders' days. Returns whether all of them are days that are kept, by the
    /// database's clock or by this machine's: an order of another day cannot be settled.
    async fn make_days(&self, orders: &[Arrived]) -> Result<bool, sqlx::Error> {
        let (here, there) = (Day::today(), days::database_today(&self.pool).await?);
        let oldest = here.min(there).0.saturating_sub(self.retention_days);
        let kept = Day(oldest)..=Day(here.max(there).0 + DAYS_AHEAD_MAX);
        let candidates = self.candidates(orders);
        // A later name of an order is a row, too.
        let needed = candidates.iter().flat_map(|candidate| {
            let day = candidate.order.id.day();
            let names = candidate.twins.iter().map(|twin| twin.day());
            names.filter(move |name| *name > day).chain([day])
        });
        let needed: BTreeSet<_> = needed.collect();
        if !needed.iter().all(|day| kept.contains(day)) {
            return Ok(false);
        }
        days::make_for(&self.pool, &needed).await?;
        Ok(true)
    }

    fn part_size(&self) -> MutexGuard<'_, PartSize> {
        self.part_size
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

/// One line for the batch, and one for each order, so that a search for a request finds its order's end.
fn log(partition: u16, orders: &[Arrived], committed: &Committed) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for (Arrived { order, .. }, verdict) in orders.iter().zip(&committed.verdicts) {
        let request_id = order.request_id.as_ref().map(RequestId::as_str);
        let (outcome, first_order_id) = match verdict {
            Verdict::Settled(outcome) => (outcome.as_str(), None),
            Verdict::Duplicate => ("duplicate", None),
            Verdict::Alias(first) => ("alias", Some(tracing::field::display(first))),
        };
        tracing::debug!(partition, order_id = %order.id, request_id, outcome, first_order_id, "order settled");
    }
    let row_writes = committed.row_writes;
    tracing::debug!(partition, orders = orders.len(), row_writes, "settled");
}
