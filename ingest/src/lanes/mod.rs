//! Lanes: one task per partition that publishes what has gathered, one envelope in flight at a time.
//!
//! Changes of settled orders have room of their own in each lane and go first: a stampede must not shut
//! payments out.
//!
//! Idle, a command travels alone. Under load the commands that come while an envelope is on its way go
//! into the next, and one confirm of the broker answers all of them. A lane owns its channel, so
//! envelopes reach the broker in the order in which they were made.

mod waiting;

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hotrow_shared::{
    broker::{Broker, BrokerError},
    envelope::{self, EncodedCommand},
    metrics as list,
    publish::{self, PublishError},
    retry::Pauses,
    seal::SealKeys,
    topology::{Repairs, routing_key},
};
use lapin::Channel;
use metrics::Histogram;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::waiting::NotAccepted;
use self::waiting::{
    CHANGES_BYTES_MAX, CHANGES_MAX, INBOX_ENVELOPES, PURCHASES_BYTES_MAX, Parcel, Waiting,
};
use crate::backlog::Backlog;

/// How often a lane with nothing to do looks whether its channel is still there, so that the first
/// order after an outage of the broker need not find out.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lane whose queue is missing refuses orders before it tries again.
const MISSING_PAUSE: Duration = Duration::from_millis(500);
/// How long a lane leaves its inbox alone while the broker confirms. A confirm takes milliseconds.
const CONFIRM_USUAL_MAX: Duration = Duration::from_millis(500);
/// After that, how often it looks for orders that have waited too long.
const LATE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The inboxes of all lanes. When the last handle is dropped the lanes finish what they have and end.
pub(crate) struct Lanes {
    inboxes: Vec<LaneInboxes>,
    open: watch::Receiver<usize>,
}

/// The ways into one lane.
struct LaneInboxes {
    purchases: Inbox,
    changes: Inbox,
}

/// A bounded way into a lane.
struct Inbox {
    parcels: mpsc::Sender<Parcel>,
    /// Bytes of commands that wait in the lane or are on their way.
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Inbox {
    fn new(commands_max: usize, bytes_max: usize) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, received) = mpsc::channel(commands_max);
        let inbox = Self {
            parcels,
            bytes: Arc::default(),
            bytes_max,
        };
        (inbox, received)
    }

    async fn publish(&self, command: EncodedCommand) -> Result<(), NotAccepted> {
        let parcel = Parcel::new(command, &self.bytes, self.bytes_max);
        let (parcel, answer) = parcel.ok_or(NotAccepted::Overloaded)?;
        self.parcels
            .try_send(parcel)
            .map_err(|_| NotAccepted::Overloaded)?;
        // A lane answers every parcel; one that died had its parcels in hand.
        answer.await.unwrap_or(Err(NotAccepted::Unknown))
    }
}

impl Lanes {
    /// Starts a lane for each partition.
    #[must_use]
    pub(crate) fn start(
        broker: &Arc<Broker>,
        seals: &SealKeys,
        partitions: u16,
        envelope_orders_max: usize,
        backlog: &Arc<Backlog>,
        repairs: &Repairs,
    ) -> (Self, JoinSet<()>) {
        let metrics = LaneMetrics::new();
        let mut tasks = JoinSet::new();
        let (opened, open) = watch::channel(0);
        let opened = Arc::new(opened);
        let start = |partition| {
            let purchases_max = envelope_orders_max * INBOX_ENVELOPES;
            let (purchases, incoming_purchases) = Inbox::new(purchases_max, PURCHASES_BYTES_MAX);
            let (changes, incoming_changes) = Inbox::new(CHANGES_MAX, CHANGES_BYTES_MAX);
            let lane = Lane {
                partition,
                incoming: Incoming {
                    purchases: incoming_purchases,
                    changes: incoming_changes,
                },
                waiting: Waiting::default(),
                orders_max: envelope_orders_max,
                broker: Arc::clone(broker),
                seals: seals.clone(),
                backlog: Arc::clone(backlog),
                repairs: repairs.clone(),
                metrics: metrics.clone(),
                open: Arc::clone(&opened),
            };
            tasks.spawn(lane.run());
            LaneInboxes { purchases, changes }
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
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.open.clone()
    }

    /// Waits until every lane has a channel.
    pub(crate) async fn all_open(&self) {
        let mut open = self.open.clone();
        // An error means that the lanes have ended, which they do after the last handle on them.
        let _ = open.wait_for(|open| *open == self.inboxes.len()).await;
    }

    /// Publishes a purchase and returns when the broker has it safely in a queue, at the latest
    /// [`waiting::WAIT_MAX`] and the time of a confirm later.
    ///
    /// A caller that goes away does not take its command back: it may be on its way.
    ///
    /// # Errors
    /// See [`NotAccepted`].
    pub(crate) async fn publish(
        &self,
        partition: u16,
        command: EncodedCommand,
    ) -> Result<(), NotAccepted> {
        self.inboxes_of(partition)?.purchases.publish(command).await
    }

    /// Publishes a change of a settled order as [`Lanes::publish`] does a purchase, before all purchases that wait.
    ///
    /// # Errors
    /// See [`NotAccepted`].
    pub(crate) async fn publish_change(
        &self,
        partition: u16,
        command: EncodedCommand,
    ) -> Result<(), NotAccepted> {
        self.inboxes_of(partition)?.changes.publish(command).await
    }

    fn inboxes_of(&self, partition: u16) -> Result<&LaneInboxes, NotAccepted> {
        let inboxes = self.inboxes.get(usize::from(partition));
        inboxes.ok_or(NotAccepted::Unavailable)
    }
}

/// Measures envelopes.
#[derive(Clone)]
struct LaneMetrics {
    /// Orders in one envelope.
    envelope_orders: Histogram,
    /// Publish to confirm.
    confirm: Histogram,
}

impl LaneMetrics {
    fn new() -> Self {
        Self {
            envelope_orders: list::ENVELOPE_ORDERS.histogram(&[]),
            confirm: list::PUBLISH_CONFIRM.histogram(&[]),
        }
    }
}

/// What was handed to a lane and not taken in yet.
struct Incoming {
    purchases: mpsc::Receiver<Parcel>,
    changes: mpsc::Receiver<Parcel>,
}

impl Incoming {
    /// Moves the next parcel to those that wait, or returns false: both inboxes are closed and empty.
    async fn next(&mut self, waiting: &mut Waiting) -> bool {
        tokio::select! {
            biased;
            Some(change) = self.changes.recv() => waiting.changes.push_back(change),
            Some(purchase) = self.purchases.recv() => waiting.purchases.push_back(purchase),
            else => return false,
        }
        true
    }
}

struct Lane {
    partition: u16,
    incoming: Incoming,
    /// Taken from the inboxes and not sent yet.
    waiting: Waiting,
    orders_max: usize,
    broker: Arc<Broker>,
    seals: SealKeys,
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
                    let served = self.serve(channel).await;
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
                () = refuse_all(&mut self.incoming, &mut self.waiting, &self.broker) => return,
            }
        }
    }

    /// Publishes envelopes until the inboxes are closed and empty.
    ///
    /// A channel serves one queue only. When the queue was deleted and declared again, the broker's end of
    /// an old channel goes on with the numbers of the queue that is gone, and the new one confirms such a
    /// message and never hands it out (seen with quorum queues of RabbitMQ 3.10.8). So a lane takes a new
    /// channel once its queue was missed, by itself or by the look at the backlog.
    async fn serve(&mut self, mut channel: Channel) -> Result<(), BrokerError> {
        let routing_key = routing_key(self.partition);
        let mut missed = self.backlog.missed(self.partition);
        let mut missing_since: Option<Instant> = None;
        while self.gather(&channel).await? {
            if self.broker.blocked() {
                answer(self.waiting.all(), Err(NotAccepted::Overloaded));
                continue;
            }
            if missing_since.is_some_and(|since| since.elapsed() < MISSING_PAUSE) {
                answer(self.waiting.all(), Err(NotAccepted::Unavailable));
                continue;
            }
            let missed_now = self.backlog.missed(self.partition);
            if missing_since.take().is_some() || missed_now != missed {
                missed = missed_now;
                channel = publish::confirming_channel(&self.broker).await?;
            }
            answer(
                self.waiting.too_late(Instant::now()),
                Err(NotAccepted::Overloaded),
            );
            let parcels = self.waiting.next_envelope(self.orders_max);
            if !parcels.is_empty() && !self.send(&channel, &routing_key, parcels).await? {
                missing_since = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Takes in what came since the last envelope, and waits for something if there is nothing.
    /// Returns whether there will be anything to send.
    async fn gather(&mut self, channel: &Channel) -> Result<bool, BrokerError> {
        while self.waiting.is_empty() {
            let next = self.incoming.next(&mut self.waiting);
            match timeout(LOOK_INTERVAL, next).await {
                Ok(false) => return Ok(false),
                Ok(true) => {}
                Err(_) if channel.status().connected() => {}
                Err(_) => return Err(BrokerError::Ended),
            }
        }
        self.take_in();
        Ok(true)
    }

    /// Moves parcels from each inbox to those that wait here, as many as an envelope may hold.
    fn take_in(&mut self) {
        let Incoming { purchases, changes } = &mut self.incoming;
        for (inbox, waiting) in [
            (changes, &mut self.waiting.changes),
            (purchases, &mut self.waiting.purchases),
        ] {
            while waiting.len() < self.orders_max {
                let Ok(parcel) = inbox.try_recv() else { break };
                waiting.push_back(parcel);
            }
        }
    }

    /// Publishes one envelope and answers everybody in it. Returns whether there is a queue for it.
    async fn send(
        &mut self,
        channel: &Channel,
        routing_key: &str,
        parcels: Vec<Parcel>,
    ) -> Result<bool, BrokerError> {
        let started = Instant::now();
        let body = envelope::join(parcels.iter().map(|parcel| &parcel.command));
        let published = self.publish(channel, routing_key, &body).await;
        let (outcome, goes_on) = match published {
            Ok(()) => {
                self.metrics.confirm.record(started.elapsed());
                self.note(parcels.len());
                (Ok(()), Ok(true))
            }
            Err(error @ PublishError::NotTaken) => {
                tracing::error!(partition = self.partition, %error, "an envelope was refused");
                self.repairs.request();
                (Err(NotAccepted::Unavailable), Ok(false))
            }
            Err(PublishError::NotSent(error)) => (Err(NotAccepted::Unavailable), Err(error)),
            Err(PublishError::Unknown(error)) => (Err(NotAccepted::Unknown), Err(error)),
        };
        answer(parcels, outcome);
        goes_on
    }

    /// Publishes the body of an envelope. While the broker takes its time, orders that have waited too
    /// long for the next envelope are answered.
    async fn publish(
        &mut self,
        channel: &Channel,
        routing_key: &str,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let seals = self.seals.clone();
        let mut confirmed = pin!(publish::envelope(channel, routing_key, body, &seals));
        if let Ok(confirmed) = timeout(CONFIRM_USUAL_MAX, &mut confirmed).await {
            return confirmed;
        }
        loop {
            tokio::select! {
                confirmed = &mut confirmed => return confirmed,
                () = sleep(LATE_LOOK_INTERVAL) => self.refuse_late(),
            }
        }
    }

    /// Answers orders that have waited too long. What waits behind them stays in the inbox, as far as
    /// an envelope cannot hold it.
    fn refuse_late(&mut self) {
        loop {
            self.take_in();
            let late: Vec<_> = self.waiting.too_late(Instant::now()).collect();
            if late.is_empty() {
                return;
            }
            answer(late, Err(NotAccepted::Overloaded));
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

fn answer(parcels: impl IntoIterator<Item = Parcel>, outcome: Result<(), NotAccepted>) {
    for parcel in parcels {
        parcel.answer(outcome);
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

/// Refuses what waits and what comes in until the inboxes are closed.
async fn refuse_all(incoming: &mut Incoming, waiting: &mut Waiting, broker: &Broker) {
    let reason = || {
        if broker.blocked() {
            NotAccepted::Overloaded
        } else {
            NotAccepted::Unavailable
        }
    };
    answer(waiting.all(), Err(reason()));
    while incoming.next(waiting).await {
        answer(waiting.all(), Err(reason()));
    }
}
