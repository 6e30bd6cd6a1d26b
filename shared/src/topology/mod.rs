//! The exchanges, queues and bindings: their names, their arguments, the one place that declares them,
//! and the task of each process that makes them whole again when somebody deletes one.

mod declare;
mod error;
mod look;
mod names;
mod news_queue;
mod plan;
mod repairs;
mod stream;

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use self::{
    declare::{MISSED_BY_ALL, Occasion, declare_alone, require_partitions},
    look::{is_set_up, is_whole, missing},
};
pub use self::{
    error::TopologyError,
    look::{Depth, depth},
    names::{
        DEAD_EXCHANGE, DEAD_QUEUE, EVENTS_EXCHANGE, EVENTS_QUEUE, ORDERS_EXCHANGE,
        PREFETCH_ENVELOPES, SETTLED_EXCHANGE, queue, routing_key,
    },
    news_queue::{bind_news_queue, declare_news_queue},
    plan::{Plan, StreamLimits},
    repairs::Repairs,
};
use crate::broker::{Broker, is_denied};

/// How long a process that may not declare waits for one that does.
const DECLARED_MAX: Duration = Duration::from_secs(30);
/// How often it looks meanwhile.
const DECLARED_POLL: Duration = Duration::from_millis(500);

/// What the user of `AMQP_URL` may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Declare exchanges and queues.
    Declare,
    /// Only use those that others have declared.
    Use,
}

/// Makes sure that everything exists as it should, and that the broker has as many partitions as we
/// think.
///
/// Two connections that declare one quorum queue at the same moment break each other, so declaring
/// happens under an advisory lock. What is there already is declared, too: that is how the broker says
/// that it is not what we need.
///
/// # Errors
/// The broker has another number of partitions or foreign queues, or one of the servers is out of reach.
pub async fn ensure(broker: &Broker, pool: &PgPool, plan: &Plan) -> Result<(), TopologyError> {
    if is_set_up(broker).await? && !is_whole(broker, plan).await? {
        // Others may be at work, and have to miss it first.
        sleep(MISSED_BY_ALL).await;
    }
    declare_alone(broker, pool, plan, Occasion::Start).await?;
    tracing::info!(
        partitions = plan.partitions,
        "exchanges and queues are declared"
    );
    Ok(())
}

/// The same where the user may declare, and otherwise waits until others have.
///
/// # Errors
/// See [`ensure`]; or nobody declares what is missing.
pub async fn ensure_or_find(
    broker: &Broker,
    pool: &PgPool,
    plan: &Plan,
) -> Result<Rights, TopologyError> {
    match ensure(broker, pool, plan).await {
        Ok(()) => return Ok(Rights::Declare),
        Err(TopologyError::Broker(error)) if is_denied(&error) => {
            tracing::info!(%error, "exchanges and queues are left to the workers to declare");
        }
        Err(error) => return Err(error),
    }
    let give_up = Instant::now() + DECLARED_MAX;
    loop {
        require_partitions(broker, plan.partitions).await?;
        let Some(what) = missing(broker, plan).await? else {
            return Ok(Rights::Use);
        };
        if Instant::now() > give_up {
            return Err(TopologyError::Missing { what });
        }
        sleep(DECLARED_POLL).await;
    }
}
