//! Looks at what the broker has, without changing it.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind, Queue,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    error::TopologyError,
    names::{EVENTS_QUEUE, ORDERS_EXCHANGE, queue},
    plan::{Bound, Plan, bind, bind_stream, exchanges, queues},
};
use crate::broker::{Broker, BrokerError, is_missing};

/// How long the broker may take for one declaration. A quorum queue is a small cluster that has to be
/// started, on a busy machine beside many others.
pub(super) const DECLARE_MAX: Duration = Duration::from_secs(30);

/// Returns whether anybody has declared exchanges here before.
pub(super) async fn is_set_up(broker: &Broker) -> Result<bool, TopologyError> {
    exchange_exists(broker, ORDERS_EXCHANGE, ExchangeKind::Direct).await
}

/// The first exchange or queue that is missing, without a question for which a user needs a right. Whether they are
/// bound cannot be asked.
pub(super) async fn missing(broker: &Broker, plan: &Plan) -> Result<Option<String>, TopologyError> {
    for (exchange, kind) in exchanges(plan) {
        if !exchange_exists(broker, exchange, kind).await? {
            return Ok(Some(format!("exchange {exchange}")));
        }
    }
    let stream = plan.events.map(|_| EVENTS_QUEUE.to_owned());
    let queues = queues(plan.partitions).map(|bound| bound.queue);
    for queue in queues.chain(stream) {
        if !queue_exists(broker, &queue).await? {
            return Ok(Some(format!("queue {queue}")));
        }
    }
    Ok(None)
}

async fn exchange_exists(
    broker: &Broker,
    name: &str,
    kind: ExchangeKind,
) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let found = answered(find_exchange(&channel, name, kind)).await;
    was_found(&channel, found).await
}

/// Whether there is a queue of this name.
pub(super) async fn queue_exists(broker: &Broker, name: &str) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let found = answered(find_queue(&channel, name)).await.map(drop);
    was_found(&channel, found).await
}

/// Reads the answer to a question that had a channel of its own: the broker closes it where nothing is found.
async fn was_found(
    channel: &Channel,
    found: Result<(), BrokerError>,
) -> Result<bool, TopologyError> {
    match found {
        Ok(()) => {
            good_bye(channel).await?;
            Ok(true)
        }
        Err(BrokerError::Failed(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn find_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), lapin::Error> {
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, passive, FieldTable::default())
        .await
}

async fn find_queue(channel: &Channel, name: &str) -> Result<Queue, lapin::Error> {
    let passive = QueueDeclareOptions::default().passive();
    channel
        .queue_declare(name.into(), passive, FieldTable::default())
        .await
}

/// Binds every queue, and returns whether all exchanges and queues are there.
///
/// AMQP has no way to ask for a binding. To bind again what is bound changes nothing and costs one
/// round trip, and the broker says when the queue or the exchange is missing.
pub(super) async fn is_whole(broker: &Broker, plan: &Plan) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let look = async {
        for (exchange, kind) in exchanges(plan) {
            answered(find_exchange(&channel, exchange, kind)).await?;
        }
        for Bound {
            queue,
            exchange,
            key,
            ..
        } in queues(plan.partitions)
        {
            answered(bind(&channel, &queue, exchange, &key)).await?;
        }
        if plan.events.is_some() {
            answered(bind_stream(&channel)).await?;
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

/// Whether a partition's queue exists.
pub(super) async fn exists(broker: &Broker, partition: u16) -> Result<bool, TopologyError> {
    queue_exists(broker, &queue(partition)).await
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
    match find_queue(channel, &queue(partition)).await {
        Ok(queue) => Ok(Some(Depth {
            ready_envelopes: queue.message_count(),
            consumers: queue.consumer_count(),
        })),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn good_bye(channel: &Channel) -> Result<(), BrokerError> {
    answered(channel.close(200, "seen".into())).await
}

/// What the broker answers to one step of declaring or looking.
pub(super) async fn answered<T>(
    step: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match timeout(DECLARE_MAX, step).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(BrokerError::Silent),
    }
}
