//! The task of each process that makes the topology whole again when somebody deletes a part of it.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    declare::{MISSED_BY_ALL, Occasion, declare_alone},
    error::TopologyError,
    look::is_whole,
    plan::Plan,
};
use crate::broker::Broker;

/// How often everything is looked at, whether anybody misses something or not.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after a repair, so that a topology that cannot be repaired costs little.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// A handle on the task that keeps the topology whole. One per process is enough.
#[derive(Clone)]
pub struct Repairs(Arc<Notify>);

impl Repairs {
    /// Starts the task, which looks and repairs until `shutdown`.
    #[must_use]
    pub fn start(
        broker: &Arc<Broker>,
        pool: &PgPool,
        plan: Plan,
        shutdown: &CancellationToken,
    ) -> Self {
        let requested = Arc::new(Notify::new());
        let (broker, pool) = (Arc::clone(broker), pool.clone());
        let repairing = repair_for_ever(broker, pool, plan, Arc::clone(&requested));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(repairing));
        Self(requested)
    }

    /// A handle on no task: the user of this process may not declare, and others repair.
    #[must_use]
    pub fn by_others() -> Self {
        Self(Arc::default())
    }

    /// Says that something is missed. Many requests are one repair.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

async fn repair_for_ever(broker: Arc<Broker>, pool: PgPool, plan: Plan, requested: Arc<Notify>) {
    loop {
        // A request only makes the next look an early one.
        let _ = timeout(LOOK_INTERVAL, requested.notified()).await;
        let repaired = async {
            if !is_whole(&broker, &plan).await? {
                sleep(MISSED_BY_ALL).await;
                declare_alone(&broker, &pool, &plan, Occasion::Running).await?;
                tracing::warn!("exchanges and queues are declared anew: some were missing");
            }
            Ok(())
        };
        match repaired.await {
            Ok(()) => {}
            // Whoever works with the broker says so.
            Err(TopologyError::Broker(error)) => {
                tracing::debug!(%error, "exchanges and queues cannot be looked at");
            }
            Err(error) => tracing::error!(%error, "exchanges and queues cannot be repaired"),
        }
        sleep(REPAIR_PAUSE).await;
    }
}
