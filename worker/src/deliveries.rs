//! Deliveries: envelopes as the broker hands them out, opened, in order.
//!
//! What the broker has handed out waits as bytes, and is opened only as far as there is room: opened commands
//! take half as much again.

use std::sync::Arc;

use futures_util::StreamExt;
use hotrow_shared::{
    addresses::Brokers,
    broker::{Broker, BrokerError},
    envelope::Command,
    metrics::ENVELOPES_OPENED,
    seal::Seal,
    topology::{self, PREFETCH_ENVELOPES},
};
use lapin::{
    Channel, Consumer,
    message::Delivery as Message,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use metrics::Counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    metrics::Labelled,
    seals::{Faulty, Opened, Seals},
    settings::BATCH_BYTES_MAX,
};

/// Most bytes of envelopes that a partition has opened and not settled: the batch in hand and the next. An
/// envelope that is larger than this by itself takes all of the room.
const OPENED_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// The largest frame that a message may come in: what brokers agree to unless told otherwise. Headers cannot be
/// split, and a foreign message with larger ones than agreed would end the connection each time that it is
/// delivered. (RabbitMQ, "Networking", `frame_max`.)
const FRAME_MAX: u32 = 128 * 1024;

/// A connection that takes whatever the broker hands out.
pub(crate) fn broker(brokers: &Brokers, name: &str) -> Broker {
    Broker::new(&brokers.clone().with_frames_of(FRAME_MAX), name)
}

/// One envelope, opened.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Its place on the channel; acknowledging a tag can take all before it along.
    pub(crate) tag: u64,
    /// What can be settled.
    pub(crate) commands: Vec<Arrived>,
    pub(crate) faulty: Vec<Faulty>,
    /// The body of the envelope.
    pub(crate) size_bytes: usize,
    pub(crate) room: Room,
    /// When it came.
    pub(crate) since: Instant,
}

/// The room that opened envelopes take up until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Takes over the room of another envelope of the same partition.
    pub(crate) fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(room), Some(other)) => room.merge(other),
            (room @ None, other) => *room = other,
            (Some(_), None) => {}
        }
    }
}

/// A command as it arrived at a worker.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) command: Command,
    /// The broker handed it out before, to us or to another worker.
    pub(crate) redelivered: bool,
    /// The seal of its envelope.
    pub(crate) seal: Seal,
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

/// Opens messages, and counts them by their seal.
pub(crate) struct Opener {
    seals: Seals,
    opened: Labelled<Seal, Counter>,
}

impl Opener {
    /// Creates every series.
    pub(crate) fn new(seals: Seals) -> Self {
        let opened = |seal: Seal| ENVELOPES_OPENED.counter(&[("seal", seal.as_str())]);
        Self {
            seals,
            opened: Labelled::new(Seal::ALL, opened),
        }
    }

    fn open(&self, message: &Message, room: Room, since: Instant) -> Delivery {
        let headers = message.properties.headers().as_ref();
        let Opened {
            seal,
            commands,
            faulty,
        } = self.seals.open(&message.data, headers);
        if let Some(count) = self.opened.of(seal) {
            count.increment(1);
        }
        let arrived = |command| Arrived {
            command,
            redelivered: message.redelivered,
            seal,
        };
        Delivery {
            tag: message.delivery_tag,
            commands: commands.into_iter().map(arrived).collect(),
            faulty,
            size_bytes: message.data.len(),
            room,
            since,
        }
    }
}

/// Starts to consume a partition on a channel of its own.
pub(crate) async fn consume(
    broker: &Broker,
    partition: u16,
    opener: Arc<Opener>,
) -> Result<Consuming, BrokerError> {
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
    let (inbox, deliveries) = mpsc::channel(PREFETCH_ENVELOPES.into());
    Ok(Consuming {
        channel,
        deliveries,
        opening: AbortOnDropHandle::new(tokio::spawn(open_all(consumer, opener, inbox))),
    })
}

/// Opens envelopes while the batch before them is being committed.
async fn open_all(
    mut consumer: Consumer,
    opener: Arc<Opener>,
    inbox: mpsc::Sender<Result<Delivery, BrokerError>>,
) {
    let rooms = Arc::new(Semaphore::new(OPENED_BYTES_MAX));
    while let Some(delivery) = consumer.next().await {
        let delivery = match delivery {
            Ok(delivery) => {
                let since = Instant::now();
                let room = room_for(&rooms, delivery.data.len()).await;
                Ok(opener.open(&delivery, room, since))
            }
            Err(error) => Err(error.into()),
        };
        if inbox.send(delivery).await.is_err() {
            return;
        }
    }
}

/// Waits for room. It comes free with the batches that have some, and none of them waits for more.
async fn room_for(rooms: &Arc<Semaphore>, bytes: usize) -> Room {
    let bytes = u32::try_from(bytes.min(OPENED_BYTES_MAX)).unwrap_or(u32::MAX);
    Room(Arc::clone(rooms).acquire_many_owned(bytes).await.ok())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_waits_for_room_and_an_envelope_larger_than_all_of_it_gets_through() {
        let rooms = Arc::new(Semaphore::new(OPENED_BYTES_MAX));
        let mut first = room_for(&rooms, OPENED_BYTES_MAX / 2).await;
        first.join(room_for(&rooms, OPENED_BYTES_MAX / 4).await);
        let mut large = Box::pin(room_for(&rooms, OPENED_BYTES_MAX * 10));
        assert!((&mut large).now_or_never().is_none());
        drop(first);
        let large = large.await;
        assert_eq!(rooms.available_permits(), 0);
        drop(large);
        assert_eq!(rooms.available_permits(), OPENED_BYTES_MAX);
    }
}
