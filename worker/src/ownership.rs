//! Ownership: which partitions this worker consumes.
//!
//! Each worker that is fit for work holds a shared advisory lock in PostgreSQL as its presence, and an
//! exclusive one for each partition of its fair share. A dead session frees its locks at once, so a
//! killed worker's partitions are taken over by the next look of the others. Surplus is drained before
//! its lock is given up.
//!
//! A worker that is unfit (see [`crate::fitness`]) gives up its presence, so that the shares of the others
//! add up to the whole. While there is another, it gives up its partitions, too. While there is none, it
//! goes on trying with what it has: nobody could do better. One that cannot even ask, because it has no
//! session, gives up everything, and takes partitions again when it has one: others may be better off.
//!
//! Ownership is for speed, not for correctness: two workers on one partition would wait for each
//! other's row locks and find each other's orders settled. `x-single-active-consumer` is the net.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hotrow_shared::{database, metrics::PARTITIONS_OWNED, telemetry::Readiness};
use metrics::Gauge;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::JoinMap};

use crate::{
    fitness::Fitness,
    partition::{self, Workshop},
    store::within,
};

/// How often a worker looks at who is there: for how long a partition may stand still when it
/// changes hands.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the session may take to answer before it counts as dead.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long an unfit worker tries to finish what it has in hand. After that it lets go: the broker
/// delivers the same orders to the next, who finds out which of them are settled.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// The class of Hotrow's advisory locks for ownership ("row!"); the key is a partition, or presence.
const LOCK_CLASS: i32 = 0x726f_7721;
/// The key of the lock that stands for a worker's presence.
const PRESENCE: i32 = -1;

/// Holds this worker's share of the partitions.
pub(crate) struct Ownership {
    workshop: Arc<Workshop>,
    fitness: Fitness,
    connect: PgConnectOptions,
    session: Option<PgConnection>,
    /// Whether the current session holds the lock of presence.
    is_present: bool,
    /// Partitions whose lock the current session holds.
    locked: BTreeSet<u16>,
    running: BTreeMap<u16, Running>,
    tasks: JoinMap<u16, ()>,
    owned: Gauge,
    readiness: Arc<Readiness>,
}

/// A partition that is being consumed, or drained once it is told to stop.
struct Running {
    stop: CancellationToken,
    stopped_at: Option<Instant>,
}

impl Running {
    fn stop(&mut self) {
        self.stop.cancel();
        self.stopped_at.get_or_insert_with(Instant::now);
    }
}

impl Ownership {
    /// Owns nothing yet.
    pub(crate) fn new(
        workshop: Arc<Workshop>,
        connect: &PgConnectOptions,
        readiness: Arc<Readiness>,
    ) -> Self {
        let pool = workshop.pool.clone();
        Self {
            fitness: Fitness::watch(Arc::clone(&workshop.broker), pool),
            workshop,
            connect: database::options(connect, "hotrow-worker ownership"),
            session: None,
            is_present: false,
            locked: BTreeSet::new(),
            running: BTreeMap::new(),
            tasks: JoinMap::new(),
            owned: PARTITIONS_OWNED.gauge(&[]),
            readiness,
        }
    }

    /// Takes and gives up partitions until `shutdown`, then drains all of them.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let looked = within(ANSWER_MAX, self.look());
            let Some(looked) = shutdown.run_until_cancelled(looked).await else {
                break;
            };
            if let Err(error) = &looked {
                tracing::warn!(%error, "the session that holds this worker's locks is lost");
                self.session = None;
                self.is_present = false;
                self.locked.clear();
                // The partitions go on at first: settling notices a missing database by itself, and soon it
                // may be back. It may also be away for this worker alone, and others wait behind it.
                if !self.fitness.is_fit() {
                    self.stop_all(false);
                }
            }
            self.forget_ended();
            self.readiness.set("database", looked.is_ok());
            let has_broker = self.workshop.broker.connected() && self.fitness.has_broker();
            self.readiness.set("broker", has_broker);
            self.owned.set(count(self.running.len()));
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(LOOK_INTERVAL) => {}
                // A drained partition is wanted elsewhere: its lock is given up at once.
                Some((partition, _)) = self.tasks.join_next() => { self.running.remove(&partition); }
            }
        }
        self.drain().await;
    }

    /// Tells every partition to stop, and lets go of those that an unfit worker cannot finish.
    fn stop_all(&mut self, is_fit: bool) {
        self.running.values_mut().for_each(Running::stop);
        let overdue = overdue(&self.view().running, is_fit);
        self.let_go(&overdue);
    }

    /// Forgets the partitions whose work has ended.
    fn forget_ended(&mut self) {
        while let Some((partition, _)) = self.tasks.try_join_next() {
            self.running.remove(&partition);
        }
    }

    /// Stops every partition and waits until each has finished what it has in hand, or cannot.
    async fn drain(mut self) {
        self.stop_all(true);
        while !self.tasks.is_empty() {
            tokio::select! {
                Some((partition, _)) = self.tasks.join_next() => { self.running.remove(&partition); }
                () = sleep(LOOK_INTERVAL) => self.stop_all(self.fitness.has_broker()),
            }
        }
        self.owned.set(0.0);
    }

    /// One look: who is there, what is mine, what changes.
    async fn look(&mut self) -> Result<(), sqlx::Error> {
        let is_fit = self.fitness.is_fit();
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(self.connect.connect().await?),
        };
        if is_fit != self.is_present {
            if is_fit {
                appear(session).await?;
            } else {
                disappear(session).await?;
                tracing::warn!("broker or database cannot be worked with: others may take over");
            }
            self.is_present = is_fit;
        }
        // A new session holds no locks; what runs on needs them again before anything else is taken.
        let unlocked = unlocked(&self.running, &self.locked);
        if !unlocked.is_empty() {
            let most = unlocked.len();
            self.locked
                .extend(try_lock(session, &unlocked, most).await?);
        }
        let attendance = attendance(session).await?;

        let plan = plan(&self.view(), attendance, is_fit);
        for partition in &plan.stop {
            if let Some(running) = self.running.get_mut(partition) {
                running.stop();
            }
        }
        self.let_go(&plan.let_go);
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        for partition in plan.unlock {
            unlock(session, partition).await?;
            self.locked.remove(&partition);
            tracing::info!(partition, "partition given up");
        }
        if plan.take > 0 {
            for partition in try_lock(session, &plan.free, plan.take).await? {
                self.locked.insert(partition);
                self.start(partition);
            }
        }
        Ok(())
    }

    fn view(&self) -> View {
        let stopped_for = |running: &Running| running.stopped_at.map(|at| at.elapsed());
        View {
            partitions: self.workshop.partitions,
            locked: self.locked.clone(),
            running: self
                .running
                .iter()
                .map(|(partition, running)| (*partition, stopped_for(running)))
                .collect(),
        }
    }

    fn start(&mut self, partition: u16) {
        let stop = CancellationToken::new();
        let (workshop, token) = (Arc::clone(&self.workshop), stop.clone());
        self.tasks.spawn(partition, async move {
            partition::work(&workshop, partition, &token).await;
        });
        let running = Running {
            stop,
            stopped_at: None,
        };
        self.running.insert(partition, running);
        tracing::info!(partition, "partition taken");
    }

    /// Ends the work on partitions where it is. What was not acknowledged is delivered again.
    fn let_go(&mut self, partitions: &[u16]) {
        for partition in partitions {
            self.tasks.abort(partition);
            tracing::warn!(
                partition,
                "what was in hand could not be finished and is let go"
            );
        }
    }
}

/// What a worker has when it looks.
#[derive(Debug, Default)]
struct View {
    partitions: u16,
    locked: BTreeSet<u16>,
    /// For how long each has been told to stop; none if it has not.
    running: BTreeMap<u16, Option<Duration>>,
}

/// The workers that are there and fit.
#[derive(Debug, Clone, Copy)]
struct Attendance {
    /// This worker's place among them.
    rank: usize,
    workers: usize,
}

/// What changes after a look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Partitions to drain.
    stop: Vec<u16>,
    /// Partitions whose work is ended as it is.
    let_go: Vec<u16>,
    /// Partitions that are drained: their locks are for others.
    unlock: Vec<u16>,
    /// Partitions that may be had, if nobody else has them.
    free: Vec<u16>,
    /// How many of them to take.
    take: usize,
}

/// Decides what one look changes.
fn plan(view: &View, attendance: Attendance, is_fit: bool) -> Plan {
    let Attendance { rank, workers } = attendance;
    let share = match (is_fit, workers) {
        // A worker counts itself, or the session was lost in between.
        (true, _) => fair_share(view.partitions, workers.max(1), rank),
        (false, 0) => view.running.len(),
        (false, _) => 0,
    };
    let mut kept = 0;
    let mut stop = Vec::new();
    for (partition, stopped_for) in &view.running {
        if stopped_for.is_some() {
            continue;
        }
        if view.locked.contains(partition) && kept < share {
            kept += 1;
        } else {
            stop.push(*partition);
        }
    }
    let take = if is_fit { share - kept } else { 0 };
    let is_free =
        |partition: &u16| !view.locked.contains(partition) && !view.running.contains_key(partition);
    Plan {
        stop,
        let_go: overdue(&view.running, is_fit),
        unlock: view
            .locked
            .iter()
            .copied()
            .filter(|partition| !view.running.contains_key(partition))
            .collect(),
        free: if take > 0 {
            (0..view.partitions).filter(is_free).collect()
        } else {
            Vec::new()
        },
        take,
    }
}

/// Partitions that an unfit worker has been told to stop and cannot finish.
fn overdue(running: &BTreeMap<u16, Option<Duration>>, is_fit: bool) -> Vec<u16> {
    let is_overdue = |stopped_for: &Option<Duration>| {
        !is_fit && stopped_for.is_some_and(|since| since > FINISH_MAX)
    };
    running
        .iter()
        .filter(|(_, stopped_for)| is_overdue(stopped_for))
        .map(|(partition, _)| *partition)
        .collect()
}

fn unlocked(running: &BTreeMap<u16, Running>, locked: &BTreeSet<u16>) -> Vec<u16> {
    let partitions = running.keys().copied();
    partitions.filter(|it| !locked.contains(it)).collect()
}

fn count(partitions: usize) -> f64 {
    f64::from(u16::try_from(partitions).unwrap_or(u16::MAX))
}

/// Takes the lock that says that this worker is there.
async fn appear(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select pg_advisory_lock_shared($1, $2)",
        LOCK_CLASS,
        PRESENCE
    )
    .execute(session)
    .await?;
    Ok(())
}

async fn disappear(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "select pg_advisory_unlock_shared($1, $2)",
        LOCK_CLASS,
        PRESENCE
    )
    .fetch_one(session)
    .await?;
    Ok(())
}

/// Asks who is there. Every worker sees the same list, so that their shares add up to the whole.
async fn attendance(session: &mut PgConnection) -> Result<Attendance, sqlx::Error> {
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
    Ok(Attendance {
        rank: usize::try_from(row.rank).unwrap_or_default(),
        workers: usize::try_from(row.workers).unwrap_or_default(),
    })
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

    const ALONE: Attendance = Attendance {
        rank: 0,
        workers: 1,
    };
    const FIRST_OF_TWO: Attendance = Attendance {
        rank: 0,
        workers: 2,
    };
    const NOBODY: Attendance = Attendance {
        rank: 0,
        workers: 0,
    };

    /// A worker of four partitions that consumes these and has their locks.
    fn worker(running: impl IntoIterator<Item = u16>) -> View {
        let running: BTreeMap<_, _> = running.into_iter().map(|it| (it, None)).collect();
        View {
            partitions: 4,
            locked: running.keys().copied().collect(),
            running,
        }
    }

    #[test]
    fn a_worker_takes_what_is_missing_from_its_share() {
        let plan = plan(&worker([1]), ALONE, true);
        let expected = Plan {
            free: vec![0, 2, 3],
            take: 3,
            ..Plan::default()
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn surplus_is_stopped_and_its_lock_is_given_up_once_it_is_drained() {
        let mut view = worker(0..4);
        let told = plan(&view, FIRST_OF_TWO, true);
        let expected = Plan {
            stop: vec![2, 3],
            ..Plan::default()
        };
        assert_eq!(told, expected);

        view.running.insert(2, Some(FINISH_MAX * 10));
        view.running.remove(&3);
        let later = plan(&view, FIRST_OF_TWO, true);
        let expected = Plan {
            unlock: vec![3],
            ..Plan::default()
        };
        assert_eq!(later, expected, "a fit worker finishes what it has in hand");
    }

    #[test]
    fn what_runs_without_its_lock_is_stopped() {
        let mut view = worker(0..4);
        view.locked.remove(&1);
        assert_eq!(plan(&view, ALONE, true).stop, [1]);
        assert_eq!(plan(&view, NOBODY, false).stop, [1]);
    }

    #[test]
    fn an_unfit_worker_gives_all_to_the_others_and_lets_go_of_what_it_cannot_finish() {
        let mut view = worker(0..2);
        let told = plan(&view, ALONE, false);
        let expected = Plan {
            stop: vec![0, 1],
            ..Plan::default()
        };
        assert_eq!(told, expected);

        view.running.insert(0, Some(FINISH_MAX / 2));
        view.running.insert(1, Some(FINISH_MAX * 2));
        assert_eq!(plan(&view, ALONE, false).let_go, [1]);
        view.running.clear();
        let given_up = plan(&view, ALONE, false);
        let expected = Plan {
            unlock: vec![0, 1],
            ..Plan::default()
        };
        assert_eq!(given_up, expected);
    }

    #[test]
    fn an_unfit_worker_goes_on_with_what_it_has_while_nobody_is_fit() {
        assert_eq!(plan(&worker(0..2), NOBODY, false), Plan::default());
        assert_eq!(plan(&worker([]), NOBODY, false), Plan::default());
    }

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
