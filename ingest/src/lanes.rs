//! Lanes: one task per partition that publishes what has gathered, one envelope in flight at a time.
//!
//! Idle, an order travels alone. Under load the orders that come while an envelope is on its way
//! go into the next, and one confirm of the broker answers all of them. A lane owns its channel:
//! only so are the frames of an envelope and the sequence of the orders one thing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotrow_shared::{
    broker::{Broker, BrokerError},
    envelope::{self, EncodedCommand},
    publish::{self, PublishError},
    retry::Pauses,
    topology::{ORDERS_EXCHANGE, Repairs, routing_key},
};
use lapin::{Channel, types::FieldTable};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{backlog::Backlog, metrics::LaneMetrics};

/// Full envelopes that may wait in a lane: at its usual pace some 100 ms of work, and what a client
/// would wait for at most. Beyond, the lane is overloaded.
const INBOX_ENVELOPES: usize = 16;
/// How often a lane with nothing to do looks whether its channel is still there, so that the first
/// order after an outage of the broker need not find out.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why an order was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// The lane is full, or the broker takes no messages now. The order is not queued.
    Overloaded,
    /// The broker is out of reach, or refused the order. The order is not queued.
    Unavailable,
    /// The broker did not answer. The order may be queued.
    Unknown,
}

/// An order and whom to answer.
struct Parcel {
    command: EncodedCommand,
    reply: oneshot::Sender<Result<(), NotAccepted>>,
}

/// The inboxes of all lanes. When the last handle is dropped the lanes finish what they have and end.
pub struct Lanes {
    inboxes: Vec<mpsc::Sender<Parcel>>,
    open: watch::Receiver<usize>,
}

impl Lanes {
    /// Starts a lane for each partition.
    #[must_use]
    pub fn start(
        broker: &Arc<Broker>,
        partitions: u16,
        envelope_orders_max: usize,
        backlog: &Arc<Backlog>,
        repairs: &Repairs,
        metrics: &LaneMetrics,
    ) -> (Self, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let (opened, open) = watch::channel(0);
        let opened = Arc::new(opened);
        let start = |partition| {
            let (sender, inbox) = mpsc::channel(envelope_orders_max * INBOX_ENVELOPES);
            let lane = Lane {
                partition,
                inbox,
                orders_max: envelope_orders_max,
                broker: Arc::clone(broker),
                backlog: Arc::clone(backlog),
                repairs: repairs.clone(),
                metrics: metrics.clone(),
                open: Arc::clone(&opened),
            };
            tasks.spawn(lane.run());
            sender
        };
        (
            Self {
                inboxes: (0..partitions).map(start).collect(),
                open,
            },
            tasks,
        )
    }

    /// How many lanes have a channel, and by that can take orders.
    #[must_use]
    pub fn open(&self) -> watch::Receiver<usize> {
        self.open.clone()
    }

    /// Publishes an order and returns when the broker has it safely in a queue.
    ///
    /// A caller that goes away does not take its order back: it may be on its way.
    ///
    /// # Errors
    /// See [`NotAccepted`].
    pub async fn publish(
        &self,
        partition: u16,
        command: EncodedCommand,
    ) -> Result<(), NotAccepted> {
        let (reply, answer) = oneshot::channel();
        let inbox = self
            .inboxes
            .get(usize::from(partition))
            .ok_or(NotAccepted::Unavailable)?;
        inbox
            .try_send(Parcel { command, reply })
            .map_err(|_| NotAccepted::Overloaded)?;
        // A lane answers every parcel; one that died had its parcels in hand.
        answer.await.unwrap_or(Err(NotAccepted::Unknown))
    }
}

struct Lane {
    partition: u16,
    inbox: mpsc::Receiver<Parcel>,
    orders_max: usize,
    broker: Arc<Broker>,
    backlog: Arc<Backlog>,
    repairs: Repairs,
    metrics: LaneMetrics,
    open: Arc<watch::Sender<usize>>,
}

impl Lane {
    async fn run(mut self) {
        loop {
            let connecting = open_channel(Arc::clone(&self.broker), self.partition);
            tokio::select! {
                channel = connecting => {
                    self.open.send_modify(|open| *open += 1);
                    let served = self.serve(&channel).await;
                    self.open.send_modify(|open| *open -= 1);
                    match served {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(partition = self.partition, %error, "a lane lost its channel");
                            // The exchange may be gone.
                            self.repairs.request();
                        }
                    }
                }
                // Meanwhile nobody waits for a broker that is not there.
                () = refuse_all(&mut self.inbox, &self.broker) => return,
            }
        }
    }

    /// Publishes envelopes until the inbox is closed and empty.
    async fn serve(&mut self, channel: &Channel) -> Result<(), BrokerError> {
        let routing_key = routing_key(self.partition);
        let mut parcels = Vec::with_capacity(self.orders_max);
        loop {
            let gathered = self.inbox.recv_many(&mut parcels, self.orders_max);
            match timeout(LOOK_INTERVAL, gathered).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) if channel.status().connected() => continue,
                Err(_) => return Err(BrokerError::Ended),
            }
            if self.broker.blocked() {
                answer(&mut parcels, Err(NotAccepted::Overloaded));
                continue;
            }
            let started = Instant::now();
            let body = envelope::seal(parcels.iter().map(|parcel| &parcel.command));
            match publish::confirmed(
                channel,
                ORDERS_EXCHANGE,
                &routing_key,
                &body,
                FieldTable::default(),
            )
            .await
            {
                Ok(()) => {
                    self.metrics.confirm.record(started.elapsed());
                    self.note(parcels.len());
                    answer(&mut parcels, Ok(()));
                }
                Err(error @ PublishError::NotTaken) => {
                    tracing::error!(partition = self.partition, %error, "an envelope was refused");
                    self.repairs.request();
                    answer(&mut parcels, Err(NotAccepted::Unavailable));
                }
                Err(PublishError::NotSent(error)) => {
                    answer(&mut parcels, Err(NotAccepted::Unavailable));
                    return Err(error);
                }
                Err(PublishError::Unknown(error)) => {
                    answer(&mut parcels, Err(NotAccepted::Unknown));
                    return Err(error);
                }
            }
        }
    }

    fn note(&self, orders: usize) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an envelope has at most 4,096 orders"
        )]
        self.metrics.envelope_orders.record(orders as f64);
        self.backlog.published(self.partition, orders);
    }
}

fn answer(parcels: &mut Vec<Parcel>, outcome: Result<(), NotAccepted>) {
    for parcel in parcels.drain(..) {
        // A client that went away does not hear it.
        let _ = parcel.reply.send(outcome);
    }
}

/// A channel on which the broker confirms, however long that takes.
async fn open_channel(broker: Arc<Broker>, partition: u16) -> Channel {
    let mut pauses = Pauses::new();
    loop {
        // A broker that blocks publishers reads nothing from this connection, and says on no new one
        // that it does before something was published there: this one is kept until it is unblocked.
        if !broker.blocked() {
            match publish::confirming_channel(&broker).await {
                Ok(channel) => return channel,
                Err(error) => tracing::debug!(partition, %error, "a lane has no channel"),
            }
        }
        pauses.pause().await;
    }
}

/// Refuses what comes in until the inbox is closed.
async fn refuse_all(inbox: &mut mpsc::Receiver<Parcel>, broker: &Broker) {
    while let Some(parcel) = inbox.recv().await {
        let reason = if broker.blocked() {
            NotAccepted::Overloaded
        } else {
            NotAccepted::Unavailable
        };
        let _ = parcel.reply.send(Err(reason));
    }
}
