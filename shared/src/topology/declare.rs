//! The one place that declares exchanges and queues.

use std::time::Duration;

use lapin::{
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::{PgPool, Postgres, Transaction};

use super::{
    error::TopologyError,
    look::{answered, exists, good_bye},
    plan::{Bound, Plan, bind, exchanges, queues},
    stream,
};
use crate::broker::Broker;

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
    plan: &Plan,
    occasion: Occasion,
) -> Result<(), TopologyError> {
    let mut lock = lock(pool).await?;
    // First, because a user who may not declare must not begin another generation of the stream.
    declare_exchanges(broker, plan).await?;
    if plan.events.is_some() && !stream::exists(broker).await? {
        stream::begin_generation(&mut lock).await?;
        lock.commit().await?;
        lock = self::lock(pool).await?;
        if occasion == Occasion::Running {
            tracing::warn!(
                "the stream of events is gone and made anew: what was in it can be published again by \
                 `hotrow-worker events replay`"
            );
        }
    }
    check_partitions(broker, plan.partitions, occasion).await?;
    declare_queues(broker, plan).await?;
    if let Some(limits) = plan.events {
        stream::declare(broker, limits).await?;
    }
    lock.commit().await?;
    Ok(())
}

/// Takes the lock for declaring, until the end of the transaction.
async fn lock(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
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
    Ok(lock)
}

/// Makes sure that the broker has as many partitions as this process thinks.
pub(super) async fn require_partitions(
    broker: &Broker,
    partitions: u16,
) -> Result<(), TopologyError> {
    check_partitions(broker, partitions, Occasion::Start).await
}

async fn check_partitions(
    broker: &Broker,
    partitions: u16,
    occasion: Occasion,
) -> Result<(), TopologyError> {
    match found(broker, partitions, occasion).await? {
        Some(found) if found != partitions => Err(TopologyError::Partitions {
            setting: partitions,
            found,
        }),
        _ => Ok(()),
    }
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

async fn declare_exchanges(broker: &Broker, plan: &Plan) -> Result<(), TopologyError> {
    let channel = broker.channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    for (exchange, kind) in exchanges(plan) {
        let declared =
            channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default());
        answered(declared)
            .await
            .map_err(|error| TopologyError::of(error, "exchange", exchange))?;
    }
    Ok(good_bye(&channel).await?)
}

async fn declare_queues(broker: &Broker, plan: &Plan) -> Result<(), TopologyError> {
    let channel = broker.channel().await?;
    for Bound {
        queue,
        arguments,
        exchange,
        key,
    } in queues(plan.partitions)
    {
        let durable = QueueDeclareOptions::durable();
        answered(channel.queue_declare(queue.as_str().into(), durable, arguments))
            .await
            .map_err(|error| TopologyError::of(error, "queue", &queue))?;
        answered(bind(&channel, &queue, exchange, &key)).await?;
    }
    Ok(good_bye(&channel).await?)
}
