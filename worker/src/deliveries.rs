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
pub struct Delivery {
    /// Its place on the channel; acknowledging a tag can take all before it along.
    pub tag: u64,
    /// What can be settled.
    pub orders: Vec<Arrived>,
    /// What cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// An order as it arrived at a worker.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The order.
    pub order: Order,
    /// The broker handed it out before, to us or to another worker.
    pub redelivered: bool,
}

/// The envelopes of one partition. They end only with the channel.
pub struct Deliveries {
    opened: mpsc::Receiver<Result<Delivery, BrokerError>>,
    /// Ends with this value.
    _opening: AbortOnDropHandle<()>,
}

impl Deliveries {
    /// Starts to consume a partition on a channel of its own.
    ///
    /// # Errors
    /// The broker is out of reach, or the queue is missing.
    pub async fn of(broker: &Broker, partition: u16) -> Result<(Channel, Self), BrokerError> {
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
        let (sender, opened) = mpsc::channel(PREFETCH_ENVELOPES.into());
        let deliveries = Self {
            opened,
            _opening: AbortOnDropHandle::new(tokio::spawn(open_all(consumer, sender))),
        };
        Ok((channel, deliveries))
    }

    /// The next envelope, or none when the channel has ended.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery, BrokerError>> {
        self.opened.recv().await
    }

    /// The next envelope, if it is here already.
    pub fn ready(&mut self) -> Option<Result<Delivery, BrokerError>> {
        self.opened.try_recv().ok()
    }
}

/// Opens envelopes while the batch before them is being committed.
async fn open_all(mut consumer: Consumer, opened: mpsc::Sender<Result<Delivery, BrokerError>>) {
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery
            .map(|delivery| open(&delivery))
            .map_err(BrokerError::from);
        if opened.send(delivery).await.is_err() {
            return;
        }
    }
}

fn open(delivery: &lapin::message::Delivery) -> Delivery {
    let opened = envelope::open(&delivery.data);
    let redelivered = delivery.redelivered;
    Delivery {
        tag: delivery.delivery_tag,
        orders: opened
            .commands
            .into_iter()
            .map(|Command::Place(order)| Arrived { order, redelivered })
            .collect(),
        unreadable: opened.unreadable,
    }
}
