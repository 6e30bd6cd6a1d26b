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

mod locks;
mod plan;

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

use self::{
    locks::{appear, attendance, disappear, try_lock, unlock},
    plan::{View, overdue, plan},
};
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

fn unlocked(running: &BTreeMap<u16, Running>, locked: &BTreeSet<u16>) -> Vec<u16> {
    let partitions = running.keys().copied();
    partitions.filter(|it| !locked.contains(it)).collect()
}

fn count(partitions: usize) -> f64 {
    f64::from(u16::try_from(partitions).unwrap_or(u16::MAX))
}
