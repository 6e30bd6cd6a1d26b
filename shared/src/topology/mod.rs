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

use sqlx::PgPool;
use tokio::time::sleep;

use self::{
    declare::{MISSED_BY_ALL, Occasion, declare_alone},
    look::{is_set_up, is_whole},
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
use crate::broker::Broker;

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
