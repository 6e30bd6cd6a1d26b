//! The backlog: how many orders wait in which queue, and how long a new one will.
//!
//! The broker is asked once a second and counts messages, which are envelopes. Their size is known
//! from the envelopes that this process published last. AMQP does not tell how many envelopes a worker
//! holds, but while anything is ready, it holds its full prefetch. Between two answers of the broker,
//! what this process published is added, and what the news reports as settled is taken off.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hotrow_shared::{
    broker::{Broker, BrokerError},
    metrics as list,
    news::QueueNews,
    topology::{self, Depth, PREFETCH_ENVELOPES, Repairs},
};
use metrics::Gauge;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often the broker is asked.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long all answers may take before the broker counts as out of reach.
const SAMPLE_TIME_MAX: Duration = Duration::from_secs(5);
/// Envelopes whose size is remembered, per partition.
const SIZES_MAX: usize = 4_096;
/// What an order is expected to wait before the first news, and at least.
const WAIT_FIRST: Duration = Duration::from_millis(40);
/// Orders per second that a worker settles from a backlog, before one was seen.
const PACE_FIRST: f64 = 20_000.0;
/// The longest wait that is announced.
const WAIT_MAX: Duration = Duration::from_hours(1);
/// The longest stall that is believed while the broker has nothing ready.
const STALL_UNSEEN_MAX: Duration = Duration::from_mins(1);
/// The weight of the newest value in a moving mean.
const NEWEST_WEIGHT: f64 = 0.3;

/// What waits in all queues.
pub(crate) struct Backlog {
    partitions: Vec<PartitionBacklog>,
    orders_max: u64,
}

struct PartitionBacklog {
    state: Mutex<State>,
    /// What the state comes to, for readers that must not wait.
    orders: AtomicU64,
    wait_ms: AtomicU64,
    gauge: Gauge,
    /// How often the queue was missing when the broker was asked.
    missed: AtomicU64,
}

struct State {
    /// Orders in the newest envelopes of this process, the newest last.
    sizes: VecDeque<u16>,
    /// Orders in the queue when the broker was asked last.
    sampled: u64,
    published: u64,
    taken: u64,
    /// The mean age of orders when they were settled.
    age_ms: f64,
    /// Orders settled per second while there was a backlog.
    pace: f64,
    /// Orders of this process that no news has told of yet.
    unsettled: u64,
    /// How long nothing was settled although something waits.
    stalled: Duration,
}

impl Backlog {
    /// A backlog of nothing. Above `orders_max` it is full.
    #[must_use]
    pub(crate) fn new(partitions: u16, orders_max: u64) -> Self {
        Self {
            partitions: (0..partitions).map(PartitionBacklog::new).collect(),
            orders_max,
        }
    }

    /// Whether more is waiting than may.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.partitions
            .iter()
            .map(|partition| partition.orders.load(Ordering::Relaxed))
            .sum::<u64>()
            >= self.orders_max
    }

    /// How long a new order of a partition will wait.
    #[must_use]
    pub(crate) fn wait(&self, partition: u16) -> Duration {
        self.partitions
            .get(usize::from(partition))
            .map_or(WAIT_FIRST, PartitionBacklog::wait)
    }

    /// How long an order of any partition may have to wait.
    #[must_use]
    pub(crate) fn longest_wait(&self) -> Duration {
        self.partitions
            .iter()
            .map(PartitionBacklog::wait)
            .max()
            .unwrap_or(WAIT_FIRST)
    }

    /// How often a partition's queue was missing so far. When this changes, whatever was opened before
    /// was for a queue that is gone.
    pub(crate) fn missed(&self, partition: u16) -> u64 {
        let partition = self.partitions.get(usize::from(partition));
        partition.map_or(0, |partition| partition.missed.load(Ordering::Relaxed))
    }

    fn note_missing(&self, partition: u16) {
        if let Some(partition) = self.partitions.get(usize::from(partition)) {
            partition.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that an envelope is in a queue.
    pub(crate) fn published(&self, partition: u16, orders: usize) {
        self.change(partition, |state| {
            state.published += orders as u64;
            state.unsettled += orders as u64;
            state
                .sizes
                .push_back(u16::try_from(orders).unwrap_or(u16::MAX));
            if state.sizes.len() > SIZES_MAX {
                state.sizes.pop_front();
            }
        });
    }

    /// Notes that a worker took orders off a queue.
    pub(crate) fn taken(&self, news: QueueNews) {
        self.change(news.partition, |state| {
            state.taken += u64::from(news.taken_orders);
            state.unsettled = state.unsettled.saturating_sub(u64::from(news.taken_orders));
            state.stalled = Duration::ZERO;
            state.age_ms += NEWEST_WEIGHT * (f64::from(news.age_ms) - state.age_ms);
        });
    }

    fn sampled(&self, partition: u16, depth: Depth) {
        self.change(partition, |state| state.sample(depth));
    }

    fn change(&self, partition: u16, change: impl FnOnce(&mut State)) {
        if let Some(partition) = self.partitions.get(usize::from(partition)) {
            partition.change(change);
        }
    }

    /// Asks the broker once a second until `shutdown`, and tells whether it answers.
    pub(crate) async fn sample_forever(
        self: Arc<Self>,
        broker: Arc<Broker>,
        repairs: Repairs,
        answers: impl Fn(bool),
        shutdown: CancellationToken,
    ) {
        loop {
            let sampled = timeout(SAMPLE_TIME_MAX, self.sample_all(&broker, &repairs)).await;
            let sampled = sampled.unwrap_or(Err(BrokerError::Silent));
            if let Err(error) = &sampled {
                tracing::debug!(%error, "the depth of the queues is not known");
            }
            answers(sampled.is_ok());
            if shutdown
                .run_until_cancelled(sleep(SAMPLE_INTERVAL))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn sample_all(&self, broker: &Broker, repairs: &Repairs) -> Result<(), BrokerError> {
        let mut channel = broker.channel().await?;
        for partition in 0..u16::try_from(self.partitions.len()).unwrap_or(u16::MAX) {
            if let Some(depth) = topology::depth(&channel, partition).await? {
                self.sampled(partition, depth);
            } else {
                // The look at a missing queue has closed the channel. The other queues are as good as ever.
                tracing::warn!(
                    partition,
                    "a queue is missing: its orders are refused until it is declared again"
                );
                self.note_missing(partition);
                repairs.request();
                channel = broker.channel().await?;
            }
        }
        Ok(channel.close(200, "seen".into()).await?)
    }
}

impl PartitionBacklog {
    fn new(partition: u16) -> Self {
        let state = State {
            sizes: VecDeque::new(),
            sampled: 0,
            published: 0,
            taken: 0,
            age_ms: WAIT_FIRST.as_secs_f64() * 1_000.0,
            pace: PACE_FIRST,
            unsettled: 0,
            stalled: Duration::ZERO,
        };
        let gauge = list::QUEUED_ORDERS.gauge(&[("partition", &partition.to_string())]);
        gauge.set(0.0);
        let wait_ms = AtomicU64::new(state.wait_ms());
        Self {
            state: Mutex::new(state),
            orders: AtomicU64::new(0),
            wait_ms,
            gauge,
            missed: AtomicU64::new(0),
        }
    }

    fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms.load(Ordering::Relaxed))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.orders.store(state.orders(), Ordering::Relaxed);
        self.wait_ms.store(state.wait_ms(), Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of orders")]
        self.gauge.set(state.orders() as f64);
    }
}

impl State {
    fn orders(&self) -> u64 {
        (self.sampled + self.published).saturating_sub(self.taken)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, kept within bounds"
    )]
    fn wait_ms(&self) -> u64 {
        let queueing = if self.sampled > 0 {
            self.orders() as f64 / self.pace * 1_000.0
        } else {
            0.0
        };
        (queueing.max(self.age_ms) + self.stalled.as_millis() as f64)
            .clamp(1.0, WAIT_MAX.as_millis() as f64) as u64
    }

    #[expect(clippy::cast_precision_loss, reason = "orders of one second")]
    fn sample(&mut self, depth: Depth) {
        if self.sampled > 0 && self.taken > 0 {
            self.pace +=
                NEWEST_WEIGHT * (self.taken as f64 / SAMPLE_INTERVAL.as_secs_f64() - self.pace);
        }
        if depth.ready_envelopes == 0 && self.taken == 0 {
            // What the last orders waited says ever less of the next one.
            self.age_ms += NEWEST_WEIGHT * (WAIT_FIRST.as_secs_f64() * 1_000.0 - self.age_ms);
        }
        self.stalled = match (self.taken, depth.ready_envelopes, self.unsettled) {
            (0, 0, 0) | (1.., _, _) => Duration::ZERO,
            // What waits may be in a worker's hands. After a while its news counts as lost.
            (0, 0, _) if self.stalled >= STALL_UNSEEN_MAX => {
                self.unsettled = 0;
                Duration::ZERO
            }
            (0, _, _) => self.stalled + SAMPLE_INTERVAL,
        };
        let held = if depth.ready_envelopes > 0 && depth.consumers > 0 {
            u32::from(PREFETCH_ENVELOPES)
        } else {
            0
        };
        self.sampled = self.orders_in(u64::from(depth.ready_envelopes + held));
        (self.published, self.taken) = (0, 0);
    }

    /// The orders in the newest envelopes of a queue. Exact while this process published all of them.
    fn orders_in(&self, envelopes: u64) -> u64 {
        if self.sizes.is_empty() {
            return envelopes;
        }
        let counted = usize::try_from(envelopes)
            .unwrap_or(usize::MAX)
            .min(self.sizes.len());
        let orders: u64 = self
            .sizes
            .iter()
            .rev()
            .take(counted)
            .map(|size| u64::from(*size))
            .sum();
        if counted == 0 {
            0
        } else {
            orders * envelopes / counted as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(ready_envelopes: u32, consumers: u32) -> Depth {
        Depth {
            ready_envelopes,
            consumers,
        }
    }

    #[test]
    fn the_queue_is_counted_in_orders_not_in_envelopes() {
        let backlog = Backlog::new(1, 1_000);
        for orders in [500, 3, 7] {
            backlog.published(0, orders);
        }
        backlog.sampled(0, depth(2, 0));
        assert_eq!(backlog.partitions[0].orders.load(Ordering::Relaxed), 10);
        backlog.sampled(0, depth(3, 0));
        assert_eq!(backlog.partitions[0].orders.load(Ordering::Relaxed), 510);
    }

    #[test]
    fn a_full_backlog_opens_again_when_workers_take_from_it() {
        let backlog = Backlog::new(2, 100);
        backlog.published(0, 60);
        backlog.published(1, 40);
        assert!(backlog.is_full());
        backlog.taken(QueueNews {
            partition: 1,
            taken_orders: 1,
            age_ms: 5,
        });
        assert!(!backlog.is_full());
    }

    #[test]
    fn the_announced_wait_grows_while_nothing_settles_and_shrinks_with_the_first_news() {
        let backlog = Backlog::new(1, 1_000_000);
        backlog.published(0, 1);
        let mut waits = vec![backlog.wait(0)];
        for _ in 0..3 {
            // A worker holds the order: nothing is ready.
            backlog.sampled(0, depth(0, 1));
            waits.push(backlog.wait(0));
        }
        assert!(waits.is_sorted_by(|one, next| one < next), "{waits:?}");
        backlog.taken(QueueNews {
            partition: 0,
            taken_orders: 1,
            age_ms: 5,
        });
        assert!(backlog.wait(0) <= waits[0]);
        backlog.sampled(0, depth(0, 1));
        assert!(backlog.wait(0) <= waits[0], "nothing waits any more");
    }

    #[test]
    fn news_that_was_lost_makes_no_wait_longer_for_ever() {
        let backlog = Backlog::new(1, 1_000_000);
        let first = backlog.wait(0);
        backlog.published(0, 1);
        let mut longest = first;
        for _ in 0..=STALL_UNSEEN_MAX.as_secs() {
            backlog.sampled(0, depth(0, 1));
            longest = longest.max(backlog.wait(0));
        }
        assert!(longest > first * 100);
        assert!(backlog.wait(0) <= first);
    }

    #[test]
    fn a_backlog_without_a_worker_makes_the_announced_wait_longer() {
        let backlog = Backlog::new(1, 1_000_000);
        let idle = backlog.wait(0);
        for _ in 0..200 {
            backlog.published(0, 512);
        }
        backlog.sampled(0, depth(200, 0));
        assert!(backlog.wait(0) > idle * 10);
    }
}
