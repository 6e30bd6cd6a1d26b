//! The exchanges, queues and bindings: their names, their arguments, the one place that declares them,
//! and the task of each process that makes them whole again when somebody deletes one.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable, ShortString},
};
use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, BrokerError, is_missing};

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
/// several batches while one is being committed, and 8 MB at most: an envelope has 128 KiB.
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

/// How long the broker may take for one declaration. A quorum queue is a small cluster that has to be
/// started, on a busy machine beside many others.
const DECLARE_MAX: Duration = Duration::from_secs(30);

/// How often everything is looked at, whether anybody misses something or not.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long something stays missing before it is declared again: every publisher looks once a second
/// whether its queue is there, and takes a new channel for the next queue of that name.
const MISSED_BY_ALL: Duration = Duration::from_millis(2_500);

/// The pause after a repair, so that a topology that cannot be repaired costs little.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

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
    /// Somebody declared it otherwise, and the broker changes nothing that is there.
    #[error(
        "the {what} is there, but not as Hotrow declares it ({told}): let the workers drain the hotrow.orders \
         queues, delete it, and start again"
    )]
    Foreign {
        /// The exchange or queue.
        what: String,
        /// The words of the broker.
        told: String,
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

/// Makes sure that everything exists as it should, and that the broker has as many partitions as we
/// think.
///
/// Two connections that declare one quorum queue at the same moment break each other, so declaring
/// happens under an advisory lock. What is there already is declared, too: that is how the broker says
/// that it is not what we need.
///
/// # Errors
/// The broker has another number of partitions or foreign queues, or one of the servers is out of reach.
pub async fn ensure(broker: &Broker, pool: &PgPool, partitions: u16) -> Result<(), TopologyError> {
    if is_set_up(broker).await? && !is_whole(broker, partitions).await? {
        // Others may be at work, and have to miss it first.
        sleep(MISSED_BY_ALL).await;
    }
    declare_alone(broker, pool, partitions, Occasion::Start).await?;
    tracing::info!(partitions, "exchanges and queues are declared");
    Ok(())
}

/// A handle on the task that keeps the topology whole. One per process is enough.
#[derive(Clone)]
pub struct Repairs(Arc<Notify>);

impl Repairs {
    /// Starts the task, which looks and repairs until `shutdown`.
    #[must_use]
    pub fn start(
        broker: &Arc<Broker>,
        pool: &PgPool,
        partitions: u16,
        shutdown: &CancellationToken,
    ) -> Self {
        let requested = Arc::new(Notify::new());
        let (broker, pool) = (Arc::clone(broker), pool.clone());
        let repairing = repair_for_ever(broker, pool, partitions, Arc::clone(&requested));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(repairing));
        Self(requested)
    }

    /// Says that something is missed. Many requests are one repair.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

async fn repair_for_ever(
    broker: Arc<Broker>,
    pool: PgPool,
    partitions: u16,
    requested: Arc<Notify>,
) {
    loop {
        // A request only makes the next look an early one.
        let _ = timeout(LOOK_INTERVAL, requested.notified()).await;
        let repaired = async {
            if !is_whole(&broker, partitions).await? {
                sleep(MISSED_BY_ALL).await;
                declare_alone(&broker, &pool, partitions, Occasion::Running).await?;
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

/// When it is that everything is declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// `PARTITIONS` may have been changed, and queues at the end that are missing say so.
    Start,
    /// It was right at the start: what is missing was deleted.
    Running,
}

async fn declare_alone(
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

/// Whether a partition's queue exists, asked on a channel of its own.
async fn exists(broker: &Broker, partition: u16) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let found = answered(depth(&channel, partition)).await?.is_some();
    if found {
        good_bye(&channel).await?;
    }
    Ok(found)
}

/// Returns whether anybody has declared exchanges here before.
async fn is_set_up(broker: &Broker) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(
        ORDERS_EXCHANGE.into(),
        ExchangeKind::Direct,
        passive,
        FieldTable::default(),
    );
    match answered(declared).await {
        Ok(()) => {
            good_bye(&channel).await?;
            Ok(true)
        }
        Err(BrokerError::Failed(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Binds every queue, and returns whether all exchanges and queues are there.
///
/// AMQP has no way to ask for a binding. To bind again what is bound changes nothing and costs one
/// round trip, and the broker says when the queue or the exchange is missing.
async fn is_whole(broker: &Broker, partitions: u16) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let look = async {
        for (exchange, kind) in EXCHANGES {
            let passive = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let declared =
                channel.exchange_declare(exchange.into(), kind, passive, FieldTable::default());
            answered(declared).await?;
        }
        for Bound {
            queue,
            exchange,
            key,
            ..
        } in queues(partitions)
        {
            answered(bind(&channel, &queue, exchange, &key)).await?;
        }
        Ok(())
    };
    match look.await {
        Ok(()) => {
            good_bye(&channel).await?;
            Ok(true)
        }
        Err(BrokerError::Failed(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn good_bye(channel: &Channel) -> Result<(), BrokerError> {
    answered(channel.close(200, "seen".into())).await
}

/// What the broker answers to one step of declaring or looking.
async fn answered<T>(
    step: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match timeout(DECLARE_MAX, step).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(BrokerError::Silent),
    }
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
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The exchanges that are declared, dead letters first, because the intake queues point at them.
const EXCHANGES: [(&str, ExchangeKind); 3] = [
    (DEAD_EXCHANGE, ExchangeKind::Fanout),
    (ORDERS_EXCHANGE, ExchangeKind::Direct),
    (SETTLED_EXCHANGE, ExchangeKind::Fanout),
];

/// A queue and the binding that fills it.
struct Bound {
    queue: String,
    arguments: FieldTable,
    exchange: &'static str,
    key: String,
}

/// Every durable queue, in the sequence in which they are declared.
fn queues(partitions: u16) -> impl Iterator<Item = Bound> {
    let dead = Bound {
        queue: DEAD_QUEUE.to_owned(),
        arguments: dead_arguments(),
        exchange: DEAD_EXCHANGE,
        key: String::new(),
    };
    let intake = (0..partitions).rev().map(|partition| Bound {
        queue: queue(partition),
        arguments: intake_arguments(),
        exchange: ORDERS_EXCHANGE,
        key: routing_key(partition),
    });
    std::iter::once(dead).chain(intake)
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
    bind_news_queue(channel, &name).await?;
    Ok(name)
}

/// Binds a queue of news to their exchange. Again and again does no harm, and is the only way to notice
/// that the exchange was deleted and declared anew: its bindings have gone with it.
///
/// # Errors
/// The exchange is missing, or the broker out of reach.
pub async fn bind_news_queue(channel: &Channel, queue: &ShortString) -> Result<(), lapin::Error> {
    bind(channel, queue.as_str(), SETTLED_EXCHANGE, "").await
}
