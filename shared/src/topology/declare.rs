//! The one place that declares exchanges and queues.

use std::time::Duration;

use lapin::{
    ErrorKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use sqlx::PgPool;

use super::{
    error::TopologyError,
    look::{answered, exists, good_bye},
    plan::{Bound, EXCHANGES, bind, queues},
};
use crate::broker::{Broker, BrokerError};

/// The advisory lock under which one process at a time declares.
const DECLARE_LOCK: i64 = 0x686f_7472_6f77_0001;

/// How long something stays missing before it is declared again: every publisher looks once a second
/// whether its queue is there, and takes a new channel for the next queue of that name.
pub(super) const MISSED_BY_ALL: Duration = Duration::from_millis(2_500);

/// When it is that everything is declared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// `PARTITIONS` may have been changed, and queues at the end that are missing say so.
    Start,
    /// It was right at the start: what is missing was deleted.
    Running,
}

pub(super) async fn declare_alone(
    broker: &Broker,
    pool: &PgPool,
    partitions: u16,
    occasion: Occasion,
) -> Result<(), TopologyError> {
    let mut lock = pool.begin().await?;
    // Whoever declares many queues for the first time takes a while.
    sqlx::query!("set local lock_timeout = '1min'")
        .execute(&mut *lock)
        .await?;
    sqlx::query!("set local idle_in_transaction_session_timeout = '5min'")
        .execute(&mut *lock)
        .await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", DECLARE_LOCK)
        .execute(&mut *lock)
        .await?;
    let found = found(broker, partitions, occasion).await?;
    if let Some(found) = found.filter(|found| *found != partitions) {
        return Err(TopologyError::Partitions {
            setting: partitions,
            found,
        });
    }
    declare(broker, partitions).await?;
    lock.commit().await?;
    Ok(())
}

/// The number of partitions that the queues stand for, if they say anything.
///
/// Queues are declared from the last to the first, so that those at the end are missing only where
/// fewer were declared, or where somebody deleted them.
async fn found(
    broker: &Broker,
    partitions: u16,
    occasion: Occasion,
) -> Result<Option<u16>, TopologyError> {
    let more = exists(broker, partitions).await?;
    let fewer = occasion == Occasion::Start
        && !exists(broker, partitions - 1).await?
        && exists(broker, 0).await?;
    if !more && !fewer {
        return Ok(None);
    }
    let mut found = if more { partitions + 1 } else { 1 };
    while exists(broker, found).await? {
        found += 1;
    }
    Ok(Some(found))
}

async fn declare(broker: &Broker, partitions: u16) -> Result<(), TopologyError> {
    let channel = broker.channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    for (exchange, kind) in EXCHANGES {
        let declared =
            channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default());
        answered(declared)
            .await
            .map_err(|error| unfit(error, "exchange", exchange))?;
    }
    for Bound {
        queue,
        arguments,
        exchange,
        key,
    } in queues(partitions)
    {
        let durable = QueueDeclareOptions::durable();
        answered(channel.queue_declare(queue.as_str().into(), durable, arguments))
            .await
            .map_err(|error| unfit(error, "queue", &queue))?;
        answered(bind(&channel, &queue, exchange, &key)).await?;
    }
    Ok(good_bye(&channel).await?)
}

/// Says which exchange or queue it is that the broker will not have declared so.
fn unfit(error: BrokerError, kind: &str, name: &str) -> TopologyError {
    match &error {
        BrokerError::Failed(refused) => match refused.kind() {
            ErrorKind::ProtocolError(refused)
                if *refused.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) =>
            {
                TopologyError::Foreign {
                    what: format!("{kind} {name}"),
                    told: refused.get_message().to_string(),
                }
            }
            _ => error.into(),
        },
        _ => error.into(),
    }
}
