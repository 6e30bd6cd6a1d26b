//! Ownership: which partitions this worker consumes.
//!
//! Each worker holds a shared advisory lock in PostgreSQL as its presence, and an exclusive one for
//! each partition of its fair share. A dead session frees its locks at once, so a killed worker's
//! partitions are taken over by the next look of the others. Surplus is drained before its lock is
//! given up.
//!
//! Ownership is for speed, not for correctness: two workers on one partition would wait for each
//! other's row locks and find each other's orders settled. `x-single-active-consumer` is the net.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hotrow_shared::{database, telemetry::Readiness};
use metrics::Gauge;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::JoinMap};

use crate::partition::{self, Workshop};

/// How often a worker looks at who is there: for how long a partition may stand still when it
/// changes hands.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the session may take to answer before it counts as dead.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The class of Hotrow's advisory locks for ownership ("row!"); the key is a partition, or presence.
const LOCK_CLASS: i32 = 0x726f_7721;
/// The key of the lock that stands for a worker's presence.
const PRESENCE: i32 = -1;

/// Keeps this worker's share of the partitions.
pub struct Ownership {
    workshop: Arc<Workshop>,
    connect: PgConnectOptions,
    session: Option<PgConnection>,
    /// Partitions whose lock the current session holds.
    locked: BTreeSet<u16>,
    /// Partitions that are being consumed, or drained once their token is cancelled.
    running: BTreeMap<u16, CancellationToken>,
    tasks: JoinMap<u16, ()>,
    owned: Gauge,
    readiness: Arc<Readiness>,
}

impl Ownership {
    /// Owns nothing yet.
    #[must_use]
    pub fn new(
        workshop: Arc<Workshop>,
        connect: &PgConnectOptions,
        owned: Gauge,
        readiness: Arc<Readiness>,
    ) -> Self {
        let connect = database::options(connect, "hotrow-worker ownership");
        Self {
            workshop,
            connect,
            session: None,
            locked: BTreeSet::new(),
            running: BTreeMap::new(),
            tasks: JoinMap::new(),
            owned,
            readiness,
        }
    }

    /// Takes and gives up partitions until `shutdown`, then drains all of them.
    pub async fn keep(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let looked = timeout(ANSWER_MAX, self.look()).await;
            let looked = looked.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            if let Err(error) = &looked {
                // The partitions go on: settling notices a missing database by itself.
                tracing::warn!(%error, "the session that holds this worker's locks is lost");
                self.session = None;
                self.locked.clear();
            }
            self.readiness.set("database", looked.is_ok());
            self.readiness.set("broker", self.broker_answers().await);
            self.owned.set(count(self.running.len()));
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(LOOK_INTERVAL) => {}
                // A drained partition is wanted elsewhere: its lock is given up at once.
                Some((partition, _)) = self.tasks.join_next() => { self.running.remove(&partition); }
            }
        }
        self.running.values().for_each(CancellationToken::cancel);
        while self.tasks.join_next().await.is_some() {}
        self.owned.set(0.0);
    }

    /// Whether the broker is there. While partitions are consumed they keep the connection.
    async fn broker_answers(&self) -> bool {
        let broker = &self.workshop.broker;
        if !broker.connected()
            && self.running.is_empty()
            && let Ok(channel) = broker.channel().await
        {
            let _ = channel.close(200, "seen".into()).await;
        }
        broker.connected()
    }

    /// One look: who is there, what is mine, what changes.
    async fn look(&mut self) -> Result<(), sqlx::Error> {
        let partitions = self.workshop.partitions;
        let Self {
            session, connect, ..
        } = self;
        let session = match session {
            Some(session) => session,
            None => session.insert(attend(connect).await?),
        };
        let drained: Vec<_> = self
            .locked
            .iter()
            .copied()
            .filter(|it| !self.running.contains_key(it))
            .collect();
        for partition in drained {
            unlock(session, partition).await?;
            self.locked.remove(&partition);
            tracing::info!(partition, "partition given up");
        }

        // A new session holds no locks; what runs on needs them again before anything else is taken.
        let unlocked: Vec<_> = self
            .running
            .keys()
            .copied()
            .filter(|it| !self.locked.contains(it))
            .collect();
        if !unlocked.is_empty() {
            self.locked
                .extend(try_lock(session, &unlocked, unlocked.len()).await?);
        }
        let (rank, workers) = attendance(session).await?;
        let share = fair_share(partitions, workers, rank);
        let mut kept = 0;
        for (partition, stop) in self.running.iter().filter(|(_, stop)| !stop.is_cancelled()) {
            if self.locked.contains(partition) && kept < share {
                kept += 1;
            } else {
                stop.cancel();
            }
        }
        if kept < share {
            let free: Vec<_> = (0..partitions)
                .filter(|it| !self.locked.contains(it) && !self.running.contains_key(it))
                .collect();
            for partition in try_lock(session, &free, share - kept).await? {
                self.locked.insert(partition);
                self.start(partition);
            }
        }
        Ok(())
    }

    fn start(&mut self, partition: u16) {
        let stop = CancellationToken::new();
        let (workshop, token) = (Arc::clone(&self.workshop), stop.clone());
        self.tasks.spawn(partition, async move {
            partition::work(&workshop, partition, &token).await;
        });
        self.running.insert(partition, stop);
        tracing::info!(partition, "partition taken");
    }
}

fn count(partitions: usize) -> f64 {
    f64::from(u16::try_from(partitions).unwrap_or(u16::MAX))
}

/// Opens a session and takes the lock that says that this worker is there.
async fn attend(connect: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut session = connect.connect().await?;
    sqlx::query!(
        "select pg_advisory_lock_shared($1, $2)",
        LOCK_CLASS,
        PRESENCE
    )
    .execute(&mut session)
    .await?;
    session.ping().await?;
    Ok(session)
}

/// This worker's place among the workers that are there, and how many they are.
///
/// Every worker sees the same list, so their shares add up to the whole.
async fn attendance(session: &mut PgConnection) -> Result<(usize, usize), sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where pid < pg_backend_pid()) as "rank!", count(*) as "workers!"
        from pg_locks
        where locktype = 'advisory'
          and database = (select oid from pg_database where datname = current_database())
          and classid::bigint = $1 and objid::bigint = $2 and objsubid = 2
          and granted
        "#,
        i64::from(LOCK_CLASS),
        // An oid is unsigned.
        i64::from(PRESENCE.cast_unsigned()),
    )
    .fetch_one(session)
    .await?;
    Ok((
        usize::try_from(row.rank).unwrap_or_default(),
        usize::try_from(row.workers).unwrap_or(1).max(1),
    ))
}

/// Locks up to `most` of the given partitions, those that nobody else holds.
async fn try_lock(
    session: &mut PgConnection,
    partitions: &[u16],
    most: usize,
) -> Result<Vec<u16>, sqlx::Error> {
    let wanted: Vec<_> = partitions
        .iter()
        .map(|partition| i32::from(*partition))
        .collect();
    // The limit ends the scan, so that no more locks are taken than are reported.
    let locked = sqlx::query_scalar!(
        r#"
        select partition as "partition!"
        from unnest($2::integer[]) as wanted (partition)
        where pg_try_advisory_lock($1, partition)
        limit $3
        "#,
        LOCK_CLASS,
        &wanted,
        i64::try_from(most).unwrap_or(i64::MAX),
    )
    .fetch_all(session)
    .await?;
    Ok(locked
        .into_iter()
        .filter_map(|partition| u16::try_from(partition).ok())
        .collect())
}

async fn unlock(session: &mut PgConnection, partition: u16) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "select pg_advisory_unlock($1, $2)",
        LOCK_CLASS,
        i32::from(partition)
    )
    .fetch_one(session)
    .await?;
    Ok(())
}

/// How many partitions the worker of a rank gets: as equal as whole numbers can be.
fn fair_share(partitions: u16, workers: usize, rank: usize) -> usize {
    let partitions = usize::from(partitions);
    partitions / workers + usize::from(rank < partitions % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for partitions in 1..=40 {
            for workers in 1..=45 {
                let shares: Vec<_> = (0..workers)
                    .map(|rank| fair_share(partitions, workers, rank))
                    .collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
                assert!(
                    shares
                        .iter()
                        .max()
                        .zip(shares.iter().min())
                        .is_some_and(|(most, least)| most - least <= 1)
                );
            }
        }
    }
}
