//! Settling: the commands of a batch become transactions. What comes out is what each command came to,
//! and which of them the database refuses; what follows from either is for others to do.

mod candidates;
pub(crate) mod decision;
mod metrics;
mod parts;
mod told;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    envelope::Command,
    id::{Day, IdMint},
    order::Sku,
    request_id::RequestId,
    retry::Pauses,
    seal::Seal,
};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::told::Told;
use self::{
    candidates::Candidates,
    decision::Verdict,
    metrics::SettleMetrics,
    parts::{PartSize, Parts},
    transaction::Committed,
};
use crate::{
    days,
    deliveries::Arrived,
    standstill::Grace,
    stock::Stock,
    store::{RetryCause, StoreError},
    telling::Telling,
};

/// How long one settle transaction may take before its connection counts as dead.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// Days ahead of today that a table is made for when an order needs it: clocks may differ, and an id that
/// is further ahead than this is forged or of a clock that is wrong.
const DAYS_AHEAD_MAX: u64 = 8;

/// Settles batches. There is one in a worker, and its partitions share it.
pub(crate) struct Settler {
    pool: PgPool,
    /// Where the days are made, as the owner of the tables.
    owner: PgPool,
    /// Knows under which other ids a purchase may have come in.
    mint: IdMint,
    /// Days that orders are kept.
    retention_days: u64,
    /// Whose events are told, if any are.
    telling: Option<Telling>,
    part_size: Mutex<PartSize>,
    metrics: SettleMetrics,
}

/// What became of the commands of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What was committed, a transaction each.
    pub(crate) settlements: Vec<Settlement>,
    /// What the database does not take, and never will.
    pub(crate) refused: Vec<Refused>,
    /// Whether some commands were not settled because their time after the stop was over.
    pub(crate) is_cut_short: bool,
}

/// What one transaction committed. Its rows are written from the same results, and so is the news.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// One for each command, in order of arrival.
    pub(crate) decided: Vec<Decided>,
    /// The stock of every known SKU of the commands, after this settlement.
    pub(crate) stock: BTreeMap<Sku, Stock>,
    /// The time that every row of the settlement carries.
    pub(crate) at: DateTime<Utc>,
    /// What it tells by events, if it has any.
    pub(crate) told: Option<Told>,
}

/// A command and what a settlement made of it.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) command: Command,
    pub(crate) verdict: Verdict,
}

/// A command that cannot be settled.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) command: Command,
    /// That of its envelope.
    pub(crate) seal: Seal,
    /// What the database said.
    pub(crate) detail: String,
}

/// What every part of a batch is settled with.
#[derive(Clone, Copy)]
struct Work<'a> {
    partition: u16,
    /// How long after their end holds expire, if they may.
    grace: Grace,
    /// There is no more time.
    overdue: &'a CancellationToken,
}

/// Why a part of a batch was not settled.
enum Unsettled {
    /// The database does not take one of its commands.
    Refused(StoreError),
    /// It took too long.
    TimedOut,
    /// There is no more time for it.
    CutShort,
}

impl Settler {
    /// Creates every series.
    pub(crate) fn new(
        pool: PgPool,
        owner: PgPool,
        mint: IdMint,
        retention_days: u64,
        orders_max: usize,
        telling: Option<Telling>,
    ) -> Self {
        Self {
            pool,
            owner,
            mint,
            retention_days,
            telling,
            part_size: Mutex::new(PartSize::new(orders_max)),
            metrics: SettleMetrics::new(),
        }
    }

    /// Brings every command to its verdict, in their sequence, however long the database is away. `grace` says whether
    /// holds expire meanwhile.
    ///
    /// When the database refuses a part of them for what they are, it is halved until the culprit
    /// stands alone. Once `overdue`, a command that waits for anything but a server that is away is left
    /// to the broker, which has it safely.
    pub(crate) async fn settle(
        &self,
        partition: u16,
        commands: Vec<Arrived>,
        grace: Grace,
        overdue: &CancellationToken,
    ) -> Settled {
        let mut settled = Settled::default();
        let mut parts = Parts::of(commands.len());
        let mut commands = VecDeque::from(commands);
        let work = Work {
            partition,
            grace,
            overdue,
        };
        let orders_max = || self.part_size().now();
        while let Some(part) = parts.next(orders_max()) {
            let arrived = &commands.make_contiguous()[..part];
            match self.settle_part(&work, arrived).await {
                Ok(committed) => settled
                    .settlements
                    .push(Settlement::of(commands.drain(..part), committed)),
                Err(Unsettled::Refused(refusal)) if part == 1 => {
                    let refused = |Arrived { command, seal, .. }| Refused {
                        command,
                        seal,
                        detail: refusal.to_string(),
                    };
                    settled.refused.extend(commands.pop_front().map(refused));
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

    /// Settles commands, again and again while the trouble is not theirs.
    async fn settle_part(
        &self,
        work: &Work<'_>,
        commands: &[Arrived],
    ) -> Result<Committed, Unsettled> {
        let Work {
            partition, overdue, ..
        } = *work;
        let mut pauses = Pauses::new();
        loop {
            let error = match self.attempt(work, commands).await {
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            };
            let Some(cause) = error.retry_cause() else {
                return Err(Unsettled::Refused(error));
            };
            if cause == RetryCause::MissingDay {
                // Boxed, because it is large and rare.
                let made = overdue.run_until_cancelled(Box::pin(self.make_days(commands)));
                match made.await {
                    Some(Ok(false)) => return Err(Unsettled::Refused(error)),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the days of orders and ledger cannot be made");
                    }
                    Some(Ok(true)) | None => {}
                }
            }
            if overdue.is_cancelled() && !cause.is_server_away() {
                tracing::warn!(partition, commands = commands.len(), %error, "commands are left to the broker");
                return Err(Unsettled::CutShort);
            }
            self.metrics.retry(cause);
            tracing::warn!(partition, commands = commands.len(), %error, "settling is tried again");
            if cause == RetryCause::Timeout && commands.len() > 1 {
                self.part_size().timed_out(commands.len());
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
        work: &Work<'_>,
        commands: &[Arrived],
    ) -> Result<Committed, StoreError> {
        let Work {
            partition, overdue, ..
        } = *work;
        let started = Instant::now();
        let candidates = Candidates::of(commands, &self.mint);
        let mut connection = self.pool.acquire().await?;
        let grace = work.grace.at(Instant::now());
        let settling = transaction::settle(
            &mut connection,
            commands,
            &candidates,
            grace,
            self.telling,
            &self.metrics.row_lock,
        );
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
        self.part_size().settled(commands.len(), took, SETTLE_MAX);
        self.metrics.settle.record(took);
        self.metrics.count(commands, &committed);
        log(partition, commands, &committed);
        Ok(committed)
    }

    /// Makes the tables of these commands' days. Returns whether all of them are days that are kept, by the
    /// database's clock or by this machine's: an order of another day cannot be settled.
    async fn make_days(&self, commands: &[Arrived]) -> Result<bool, sqlx::Error> {
        let (here, there) = (Day::today(), days::database_today(&self.pool).await?);
        let oldest = here.min(there).0.saturating_sub(self.retention_days);
        let kept = Day(oldest)..=Day(here.max(there).0 + DAYS_AHEAD_MAX);
        let needed: BTreeSet<_> = Candidates::of(commands, &self.mint).days().collect();
        if !needed.iter().all(|day| kept.contains(day)) {
            return Ok(false);
        }
        days::make_for(&self.owner, &needed).await?;
        Ok(true)
    }

    fn part_size(&self) -> MutexGuard<'_, PartSize> {
        self.part_size
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settlement {
    fn of(commands: impl Iterator<Item = Arrived>, committed: Committed) -> Self {
        let decided = commands.zip(committed.verdicts);
        Self {
            decided: decided
                .map(|(Arrived { command, .. }, verdict)| Decided { command, verdict })
                .collect(),
            stock: committed.stock,
            at: committed.at,
            told: committed.told,
        }
    }
}

/// One line for the batch, and one for each command, so that a search for a request finds its end.
fn log(partition: u16, commands: &[Arrived], committed: &Committed) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for (Arrived { command, .. }, verdict) in commands.iter().zip(&committed.verdicts) {
        let order_id = command.order_id();
        let request_id = command.request_id().map(RequestId::as_str);
        match command {
            Command::Place(_) => {
                let (outcome, first_order_id) = match verdict {
                    Verdict::Settled(outcome) => (outcome.as_str(), None),
                    Verdict::Alias(first) => ("alias", Some(tracing::field::display(first))),
                    _ => ("duplicate", None),
                };
                tracing::debug!(partition, %order_id, request_id, outcome, first_order_id, "order settled");
            }
            Command::Change(change) => {
                let ask = change.ask.as_str();
                let (outcome, revision) = match verdict {
                    Verdict::Changed(standing, _) => {
                        (standing.status.as_str(), Some(standing.revision))
                    }
                    Verdict::Unmatched(why) => (why.as_str(), None),
                    Verdict::UnmatchedBefore => ("unmatched_before", None),
                    Verdict::Conflict => ("conflict", None),
                    _ => ("unchanged", None),
                };
                tracing::debug!(partition, %order_id, request_id, ask, outcome, revision, "change settled");
            }
        }
    }
    let row_writes = committed.row_writes;
    tracing::debug!(partition, commands = commands.len(), row_writes, "settled");
}
