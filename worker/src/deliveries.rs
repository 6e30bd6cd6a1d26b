//! Deliveries: envelopes as the broker hands them out, opened, in order.

use futures_util::StreamExt;
use hotrow_shared::{
    broker::{Broker, BrokerError},
    envelope::{self, Command, Order, Unreadable},
    topology::{self, PREFETCH_ENVELOPES},
};
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// One envelope, opened.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Its place on the channel; acknowledging a tag can take all before it along.
    pub(crate) tag: u64,
    /// What can be settled.
    pub(crate) orders: Vec<Arrived>,
    pub(crate) unreadable: Vec<Unreadable>,
}

/// An order as it arrived at a worker.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) order: Order,
    /// The broker handed it out before, to us or to another worker.
    pub(crate) redelivered: bool,
}

/// The envelopes of one partition. They end only with the channel, and then without an error or with one.
pub(crate) type Deliveries = mpsc::Receiver<Result<Delivery, BrokerError>>;

/// A partition that is being consumed.
pub(crate) struct Consuming {
    pub(crate) channel: Channel,
    pub(crate) deliveries: Deliveries,
    /// Ends with this value.
    pub(crate) opening: AbortOnDropHandle<()>,
}

/// Starts to consume a partition on a channel of its own.
pub(crate) async fn consume(broker: &Broker, partition: u16) -> Result<Consuming, BrokerError> {
    let channel = broker.channel().await?;
    channel
        .basic_qos(PREFETCH_ENVELOPES, BasicQosOptions::default())
        .await?;
    let queue = topology::queue(partition);
    let consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    // Never full: the broker hands out no more until some are acknowledged.
    let (opened, deliveries) = mpsc::channel(PREFETCH_ENVELOPES.into());
    Ok(Consuming {
        channel,
        deliveries,
        opening: AbortOnDropHandle::new(tokio::spawn(open_all(consumer, opened))),
    })
}

/// Opens envelopes while the batch before them is being committed.
async fn open_all(mut consumer: Consumer, opened: mpsc::Sender<Result<Delivery, BrokerError>>) {
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery
            .map(|it| open(it.delivery_tag, it.redelivered, &it.data))
            .map_err(BrokerError::from);
        if opened.send(delivery).await.is_err() {
            return;
        }
    }
}

fn open(tag: u64, redelivered: bool, body: &[u8]) -> Delivery {
    let opened = envelope::open(body);
    let arrived = |Command::Place(order)| Arrived { order, redelivered };
    Delivery {
        tag,
        orders: opened.commands.into_iter().map(arrived).collect(),
        unreadable: opened.unreadable,
    }
}
