//! Expiry: finds holds that are over and queues their end, behind everything that was accepted before.
//!
//! One worker at a time looks, under an advisory lock. It decides nothing: the worker that settles the command looks
//! whether the order is still reserved and its hold still over. So it does no harm that a command is queued twice,
//! after a crash or because nothing was settled for a while.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    change::{Actor, Ask, Change, Expiry as Over, Role},
    envelope::{self, Command, ENVELOPE_BYTES_MAX, EncodedCommand},
    id::OrderId,
    metrics::{HOLD_OVERDUE, ORDERS_HELD, PAYMENTS_UNMATCHED},
    order::{Sku, partition_of_all},
    publish::{self, PublishError},
    seal::SealKeys,
    topology::routing_key,
};
use lapin::Channel;
use metrics::Gauge;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    alone::Alone,
    store::{holds, switch, within},
};

/// How often holds are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one look, and the queueing of what it found, may take.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// How often what is held is counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Most holds that one look reads. What is due longest comes first.
const DUE_MAX: i64 = 200_000;
/// Most orders that one look queues.
const QUEUED_MAX: usize = 20_000;
/// Most commands in one envelope: what lanes have, too, unless told otherwise.
const ENVELOPE_COMMANDS_MAX: usize = 512;
/// How long a hold that was queued and is still there is left alone. Twice as long each time, so that a partition that
/// nobody consumes does not fill, and no longer than its goods may wait once it is consumed again.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// One worker at a time looks.
const EXPIRY_LOCK: i64 = 0x686f_7472_6f77_0005;

/// Looks for holds that are over.
pub(crate) struct Expiry {
    broker: Arc<Broker>,
    alone: Alone,
    channel: Option<Channel>,
    seals: SealKeys,
    partitions: u16,
    grace: TimeDelta,
    /// Holds that were queued and are still there.
    queued: HashMap<OrderId, Queued>,
    counted_at: Option<Instant>,
    held: Gauge,
    overdue: Gauge,
    unmatched: Gauge,
}

/// When a hold was queued last, and after how long again.
#[derive(Debug, Clone, Copy)]
struct Queued {
    at: Instant,
    again_after: Duration,
}

impl Queued {
    fn is_due(self, now: Instant) -> bool {
        now.duration_since(self.at) >= self.again_after
    }
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum ExpiryError {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the broker: {0}")]
    Broker(#[from] BrokerError),
    #[error("the broker: {0}")]
    Publish(#[from] PublishError),
}

impl Expiry {
    /// Queues into this many partitions, `grace` after the end of a hold. Creates every series.
    pub(crate) fn new(
        broker: Arc<Broker>,
        connect: &PgConnectOptions,
        seals: SealKeys,
        partitions: u16,
        grace: TimeDelta,
    ) -> Self {
        Self {
            broker,
            alone: Alone::under(EXPIRY_LOCK, connect, "hotrow-worker expiry"),
            channel: None,
            seals,
            partitions,
            grace,
            queued: HashMap::new(),
            counted_at: None,
            held: ORDERS_HELD.gauge(&[]),
            overdue: HOLD_OVERDUE.gauge(&[]),
            unmatched: PAYMENTS_UNMATCHED.gauge(&[]),
        }
    }

    /// Looks until `shutdown`, whenever no other worker does.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let looked = tokio::time::timeout(LOOK_MAX, self.look());
            match shutdown.run_until_cancelled(looked).await {
                None => return,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    tracing::warn!(%error, "holds that are over cannot be queued");
                    self.give_up();
                }
                Some(Err(_)) => {
                    tracing::warn!(
                        "holds that are over cannot be queued: no answer within {LOOK_MAX:?}"
                    );
                    self.give_up();
                }
            }
            if shutdown
                .run_until_cancelled(sleep(LOOK_INTERVAL))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Gives up session and channel: another worker may be better off. What was queued is remembered.
    fn give_up(&mut self) {
        self.alone.give_up();
        self.channel = None;
    }

    async fn look(&mut self) -> Result<(), ExpiryError> {
        let Some(session) = self.alone.session().await? else {
            self.queued.clear();
            for gauge in [&self.held, &self.overdue, &self.unmatched] {
                gauge.set(0.0);
            }
            return Ok(());
        };
        let is_counted = self
            .counted_at
            .is_some_and(|at| at.elapsed() < COUNT_INTERVAL);
        if !is_counted {
            let held = within(LOOK_MAX, holds::held(session)).await?;
            let count = |count: i64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            self.held.set(count(held.orders));
            self.overdue.set(held.oldest_due_seconds.max(0.0));
            self.unmatched.set(count(held.unmatched));
            self.counted_at = Some(Instant::now());
        }
        if within(LOOK_MAX, switch::keeps_holds(&mut *session)).await? {
            self.overdue.set(0.0);
            return Ok(());
        }
        let due = within(LOOK_MAX, holds::due(session, self.grace, DUE_MAX)).await?;
        let now = Instant::now();
        let to_queue = choose(&due, &mut self.queued, now);
        if to_queue.is_empty() {
            return Ok(());
        }
        let orders = within(LOOK_MAX, holds::skus(session, &to_queue)).await?;
        let longest = longest_pause(due.len());
        self.queue(orders, now, longest).await?;
        // Those that could not be read, too, so that others are not left for them.
        for id in to_queue {
            note(&mut self.queued, id, now, longest);
        }
        Ok(())
    }

    /// Queues the end of these holds, each in the partition that its order has today.
    async fn queue(
        &mut self,
        orders: Vec<(OrderId, Vec<Sku>)>,
        now: Instant,
        longest: Duration,
    ) -> Result<(), ExpiryError> {
        let mut partitions: BTreeMap<u16, Vec<(OrderId, EncodedCommand)>> = BTreeMap::new();
        for (order_id, skus) in orders {
            let partition = partition_of_all(skus.iter(), self.partitions);
            let command = over(order_id, skus).encode();
            let commands = partitions.entry(partition).or_default();
            commands.push((order_id, command));
        }
        let mut count = 0;
        for (partition, commands) in partitions {
            for envelope in envelopes(&commands) {
                let body = envelope::join(envelope.iter().map(|(_, command)| command));
                self.publish(partition, &body).await?;
                for (order_id, _) in envelope {
                    note(&mut self.queued, *order_id, now, longest);
                }
                count += envelope.len();
            }
        }
        tracing::debug!(orders = count, "holds that are over are queued");
        Ok(())
    }

    async fn publish(&mut self, partition: u16, body: &[u8]) -> Result<(), ExpiryError> {
        let channel = match self.channel.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => publish::confirming_channel(&self.broker).await?,
        };
        let key = routing_key(partition);
        publish::envelope(&channel, &key, body, &self.seals).await?;
        self.channel = Some(channel);
        Ok(())
    }
}

/// Which of the holds that are due to queue now. Forgets those that are due no more.
fn choose(due: &[OrderId], queued: &mut HashMap<OrderId, Queued>, now: Instant) -> Vec<OrderId> {
    let mut still = HashMap::with_capacity(queued.len());
    let mut chosen = Vec::new();
    for id in due {
        let before = queued.get(id);
        if let Some(before) = before {
            still.insert(*id, *before);
        }
        let is_to_queue = before.is_none_or(|before| before.is_due(now));
        if is_to_queue && chosen.len() < QUEUED_MAX {
            chosen.push(*id);
        }
    }
    *queued = still;
    chosen
}

/// The longest pause, where so many holds are due: the more there are, the less often they are queued again, so that
/// no more than a look's worth comes in each [`AGAIN_AFTER_MAX`].
fn longest_pause(due: usize) -> Duration {
    let looks = u32::try_from(due / QUEUED_MAX).unwrap_or(u32::MAX);
    AGAIN_AFTER_MAX.saturating_mul(looks.saturating_add(1))
}

/// Notes that a hold was queued, once in each look.
fn note(queued: &mut HashMap<OrderId, Queued>, id: OrderId, now: Instant, longest: Duration) {
    let again_after = match queued.get(&id) {
        None => AGAIN_AFTER,
        Some(before) if before.at == now => return,
        Some(before) => (before.again_after * 2).min(longest),
    };
    let entry = Queued {
        at: now,
        again_after,
    };
    queued.insert(id, entry);
}

/// The command that ends a hold.
fn over(order_id: OrderId, skus: Vec<Sku>) -> Command {
    Command::Change(Change {
        order_id,
        skus,
        accepted_ms: Utc::now().timestamp_millis(),
        by: Actor {
            role: Role::System,
            name: None,
        },
        request_id: None,
        ticket: None,
        ask: Ask::Expire(Over {}),
    })
}

/// Cuts the commands of one partition into envelopes.
fn envelopes(
    commands: &[(OrderId, EncodedCommand)],
) -> impl Iterator<Item = &[(OrderId, EncodedCommand)]> {
    let mut left = commands;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = left
            .iter()
            .take(ENVELOPE_COMMANDS_MAX)
            .take_while(|(_, command)| {
                bytes += command.size_bytes();
                bytes <= ENVELOPE_BYTES_MAX
            });
        let count = fitting.count().max(1).min(left.len());
        let (envelope, rest) = left.split_at(count);
        left = rest;
        (!envelope.is_empty()).then_some(envelope)
    })
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;

    use super::*;

    fn ids(count: u64) -> Vec<OrderId> {
        let mint = IdMint::new("a secret of a test", None);
        (0..count).map(|ms| mint.mint(ms)).collect()
    }

    #[test]
    fn a_hold_is_queued_once_and_again_only_after_a_while_that_doubles_up_to_a_bound() {
        let (due, mut queued) = (ids(2), HashMap::new());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let longest = longest_pause(due.len());
        let looks = [
            (0, 2),
            (1, 0),
            (14, 0),
            (15, 2),
            (30, 0),
            (45, 2),
            (74, 0),
            (75, 2),
        ];
        for (seconds, expected) in looks {
            let chosen = choose(&due, &mut queued, after(seconds));
            assert_eq!(chosen.len(), expected, "after {seconds} s");
            for id in chosen {
                note(&mut queued, id, after(seconds), longest);
                note(&mut queued, id, after(seconds), longest);
            }
        }
        assert_eq!(longest_pause(10 * QUEUED_MAX), AGAIN_AFTER_MAX * 11);
        choose(&due[..1], &mut queued, after(61));
        assert_eq!(queued.len(), 1, "what is due no more is forgotten");
    }

    #[test]
    fn envelopes_are_bounded_in_commands_and_bytes_and_hold_all() {
        let sku = Sku::try_from("s".repeat(64).as_str()).expect("a valid name");
        let large = ids(2_000).into_iter().map(|id| {
            let command = over(id, vec![sku.clone(); 20]).encode();
            (id, command)
        });
        let commands: Vec<_> = large.collect();
        let all: Vec<_> = envelopes(&commands).collect();
        assert_eq!(
            all.iter().map(|envelope| envelope.len()).sum::<usize>(),
            2_000
        );
        for envelope in all {
            let bytes: usize = envelope
                .iter()
                .map(|(_, command)| command.size_bytes())
                .sum();
            assert!(envelope.len() <= ENVELOPE_COMMANDS_MAX && bytes <= ENVELOPE_BYTES_MAX);
        }
    }
}
