//! The exchanges and queues: their names, their arguments and the one place that declares them.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable, ShortString},
};
use sqlx::PgPool;

use crate::broker::{Broker, BrokerError};

/// Takes envelopes; the routing key is the partition.
pub const ORDERS_EXCHANGE: &str = "hotrow.orders";
/// Takes what cannot be settled.
pub const DEAD_EXCHANGE: &str = "hotrow.dead";
/// Keeps what cannot be settled, for a person.
pub const DEAD_QUEUE: &str = "hotrow.dead";
/// Tells every ingest process what was settled.
pub const SETTLED_EXCHANGE: &str = "hotrow.settled";

/// How often an envelope may come back before the broker dead-letters it.
///
/// Every restart of a worker brings back what it held, so the limit is far above what a day of
/// deployments needs; it is there for an envelope that kills each worker that touches it. Having
/// a limit at all also makes a quorum queue put a returned message back at its front, which keeps
/// the order of arrival.
const DELIVERY_LIMIT: i32 = 100;

/// `hotrow-worker dead-letters list` looks at messages and puts them back, and from RabbitMQ 4.0
/// on a quorum queue without a limit of its own would drop them after 20 looks.
const DEAD_DELIVERY_LIMIT: i32 = 1_000_000_000;

/// How many envelopes a partition's worker may hold that it has not acknowledged.
///
/// Together with the 512 orders of a full envelope of the default size this is 32,768 orders: enough to fill
/// several batches while one is being committed, and some 5 MB.
pub const PREFETCH_ENVELOPES: u16 = 64;

/// The advisory lock under which one process at a time declares.
const DECLARE_LOCK: i64 = 0x686f_7472_6f77_0001;

/// The name of a partition's queue.
#[must_use]
pub fn queue(partition: u16) -> String {
    format!("hotrow.orders.{partition:02}")
}

/// The routing key of a partition.
#[must_use]
pub fn routing_key(partition: u16) -> String {
    format!("{partition:02}")
}

/// Why the broker's topology is not fit for work.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The setting and the broker disagree: going on would strand or reorder orders.
    #[error(
        "PARTITIONS is {setting}, but the broker was set up with {found}: set PARTITIONS={found}, or \
         let the workers drain every queue, stop all processes and delete the hotrow.orders queues"
    )]
    Partitions {
        /// The value of `PARTITIONS`.
        setting: u16,
        /// What the queues of the broker say.
        found: u16,
    },
    /// The broker did not answer as it should.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The lock for declaring was not to be had.
    #[error("cannot take the lock for declaring queues: {0}")]
    Lock(#[from] sqlx::Error),
}

impl From<lapin::Error> for TopologyError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

/// Makes sure that everything exists, and that the broker has as many partitions as we think.
///
/// Needs the database only when something is missing: two connections that declare one quorum
/// queue at the same moment break each other, so declaring happens under an advisory lock.
///
/// # Errors
/// The broker has another number of partitions, or one of the servers is out of reach.
pub async fn ensure(broker: &Broker, pool: &PgPool, partitions: u16) -> Result<(), TopologyError> {
    if complete(broker, partitions).await? {
        Ok(())
    } else {
        repair(broker, pool, partitions).await
    }
}

/// Declares everything anew, for whoever found that something is missing.
///
/// # Errors
/// As [`ensure`].
pub async fn repair(broker: &Broker, pool: &PgPool, partitions: u16) -> Result<(), TopologyError> {
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
    complete(broker, partitions).await?;
    declare(broker, partitions).await?;
    lock.commit().await?;
    Ok(())
}

/// Whether the topology stands and fits.
///
/// Queues are declared from the last to the first, so that the first one says that all are there.
async fn complete(broker: &Broker, partitions: u16) -> Result<bool, TopologyError> {
    let first = exists(broker, 0).await?;
    let last = exists(broker, partitions - 1).await?;
    let more = exists(broker, partitions).await?;
    if more || (first && !last) {
        let mut found = if more { partitions + 1 } else { 1 };
        while exists(broker, found).await? {
            found += 1;
        }
        return Err(TopologyError::Partitions {
            setting: partitions,
            found,
        });
    }
    Ok(first)
}

/// Whether a partition's queue exists, asked on a channel of its own.
async fn exists(broker: &Broker, partition: u16) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let found = depth(&channel, partition).await?.is_some();
    if found {
        channel.close(200, "seen".into()).await?;
    }
    Ok(found)
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// What the broker says of a partition's queue.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Messages that no worker holds.
    pub ready_envelopes: u32,
    /// Workers that consume it, the active one and those that wait behind it.
    pub consumers: u32,
}

/// Asks for the depth of a partition's queue. None if it is missing; the look has closed the channel then.
///
/// # Errors
/// The broker is out of reach.
pub async fn depth(channel: &Channel, partition: u16) -> Result<Option<Depth>, lapin::Error> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let name = queue(partition).into();
    match channel
        .queue_declare(name, passive, FieldTable::default())
        .await
    {
        Ok(queue) => Ok(Some(Depth {
            ready_envelopes: queue.message_count(),
            consumers: queue.consumer_count(),
        })),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Declares everything, dead letters first, because the intake queues point at them.
async fn declare(broker: &Broker, partitions: u16) -> Result<(), TopologyError> {
    let channel = broker.channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    for (exchange, kind) in [
        (DEAD_EXCHANGE, ExchangeKind::Fanout),
        (ORDERS_EXCHANGE, ExchangeKind::Direct),
        (SETTLED_EXCHANGE, ExchangeKind::Fanout),
    ] {
        channel
            .exchange_declare(exchange.into(), kind, durable, FieldTable::default())
            .await?;
    }
    declare_queue(&channel, DEAD_QUEUE, &dead_arguments()).await?;
    bind(&channel, DEAD_QUEUE, DEAD_EXCHANGE, "").await?;
    for partition in (0..partitions).rev() {
        let queue = queue(partition);
        declare_queue(&channel, &queue, &intake_arguments()).await?;
        bind(&channel, &queue, ORDERS_EXCHANGE, &routing_key(partition)).await?;
    }
    channel.close(200, "declared".into()).await?;
    tracing::info!(partitions, "declared exchanges and queues");
    Ok(())
}

async fn declare_queue(
    channel: &Channel,
    name: &str,
    arguments: &FieldTable,
) -> Result<(), lapin::Error> {
    channel
        .queue_declare(
            name.into(),
            QueueDeclareOptions::durable(),
            arguments.clone(),
        )
        .await
        .map(|_| ())
}

async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), lapin::Error> {
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// Dead-lettering is at least once, which a quorum queue offers together with `reject-publish`.
fn intake_arguments() -> FieldTable {
    let mut arguments = quorum(DELIVERY_LIMIT);
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD_EXCHANGE));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn dead_arguments() -> FieldTable {
    quorum(DEAD_DELIVERY_LIMIT)
}

fn quorum(delivery_limit: i32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(delivery_limit),
    );
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Declares a private queue for news, bound to their exchange, and returns its name.
///
/// It holds at most a few seconds of news and drops the oldest: a slow listener must not fill the
/// broker.
///
/// # Errors
/// The broker is out of reach.
pub async fn declare_news_queue(channel: &Channel) -> Result<ShortString, lapin::Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-max-length-bytes".into(),
        AMQPValue::LongInt(64 * 1024 * 1024),
    );
    arguments.insert("x-overflow".into(), text("drop-head"));
    let private = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("".into(), private, arguments).await?;
    let name = queue.name().clone();
    bind(channel, name.as_str(), SETTLED_EXCHANGE, "").await?;
    Ok(name)
}
