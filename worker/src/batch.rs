//! Batches: the one place that decides when a batch is closed.
//!
//! Whatever arrived while the last batch was being committed goes into the next one. Idle, an
//! order is a batch of its own; under load, batches grow by themselves.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{broker::BrokerError, metrics as list};
use metrics::Histogram;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    deliveries::{Arrived, Deliveries, Delivery, Room},
    metrics::Labelled,
    seals::Faulty,
    settings::BatchLimits,
};

/// Whole envelopes that are settled and acknowledged together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In order of arrival.
    pub(crate) commands: Vec<Arrived>,
    pub(crate) faulty: Vec<Faulty>,
    /// The last envelope: acknowledging it takes all before it along.
    pub(crate) last_tag: u64,
    /// The bodies of its envelopes together.
    pub(crate) size_bytes: usize,
    /// The room that its envelopes take up; to be given up when the orders are.
    pub(crate) room: Room,
    /// When the first of its envelopes came.
    pub(crate) since: Instant,
    /// Why no more came in.
    closed_by: ClosedBy,
}

impl Batch {
    /// How long ago its oldest command was accepted.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Duration {
        let accepted_ms = self.commands.iter().map(|it| it.command.accepted_ms());
        let oldest_ms = accepted_ms.min().unwrap_or(i64::MAX);
        let age_ms = now.timestamp_millis().saturating_sub(oldest_ms);
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }
}

/// How many partitions of a worker settle at a time. While one does, the batches of the others grow, and
/// a commit costs the same for hundreds of orders as for one; where carts share SKUs, several would only
/// wait for each other's row locks. More workers settle more at a time. What it is worth:
/// docs/performance.md.
const SETTLING_MAX: usize = 1;
/// How long a turn lasts: a row that somebody holds locked delays the orders of its partition for as long as
/// it is, and those of the others once for this long.
const TURN_MAX: Duration = Duration::from_secs(1);

/// The turns of a worker's partitions to settle, in the sequence in which they ask.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// One partition's turn; it passes to the next that waits when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The semaphore is never closed, so it is there.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SETTLING_MAX)))
    }
}

impl Turns {
    /// The next turn, or none once `stop` is asked for, unless it is there at once.
    async fn next(&self, stop: &CancellationToken) -> Option<Turn> {
        let asked = Arc::clone(&self.0).acquire_owned();
        tokio::select! {
            biased;
            permit = asked => Some(Turn { _permit: permit.ok() }),
            () = stop.cancelled() => None,
        }
    }
}

impl Turn {
    /// Does some work in turn. The next need not wait for work that takes longer than a turn lasts.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(TURN_MAX, &mut work).await {
            return done;
        }
        drop(self);
        work.await
    }
}

/// Why a batch was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    /// It has as many orders or bytes as a batch may have.
    Full,
    /// Nothing more was there, and the setting says not to wait.
    Drained,
    /// It waited for company as long as the setting says.
    Waited,
    /// The partition is being given up.
    Shutdown,
}

impl ClosedBy {
    const ALL: [Self; 4] = [Self::Full, Self::Drained, Self::Waited, Self::Shutdown];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Drained => "drained",
            Self::Waited => "waited",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The sizes of a worker's batches, by what closed them.
pub(crate) struct BatchMetrics(Labelled<ClosedBy, Histogram>);

impl BatchMetrics {
    /// Creates every series.
    pub(crate) fn new() -> Self {
        Self(Labelled::new(ClosedBy::ALL, |by| {
            list::BATCH_ORDERS.histogram(&[("closed_by", by.as_str())])
        }))
    }

    /// Records a batch that is about to be settled.
    pub(crate) fn record(&self, batch: &Batch) {
        if let Some(sizes) = self.0.of(batch.closed_by) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a batch has at most 100,000 orders"
            )]
            sizes.record(batch.commands.len() as f64);
        }
    }
}

/// The batches of one partition.
pub(crate) struct Batches {
    deliveries: Deliveries,
    limits: BatchLimits,
    turns: Turns,
    /// An envelope that did not fit into the batch before.
    held: Option<Delivery>,
}

impl Batches {
    pub(crate) fn of(deliveries: Deliveries, limits: BatchLimits, turns: Turns) -> Self {
        Self {
            deliveries,
            limits,
            turns,
            held: None,
        }
    }

    /// The next batch, with the turn to settle it, or none once `stop` is asked for: what was delivered
    /// and not batched by then goes back to the queue with the channel, at its front.
    pub(crate) async fn next(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<Option<(Batch, Turn)>, BrokerError> {
        let Some(first) = self.first(stop).await? else {
            return Ok(None);
        };
        let mut batch = Batch {
            commands: first.commands,
            faulty: first.faulty,
            last_tag: first.tag,
            size_bytes: first.size_bytes,
            room: first.room,
            since: first.since,
            closed_by: ClosedBy::Full,
        };
        if let Some(closed_by) = self.gather(&mut batch, stop).await? {
            batch.closed_by = closed_by;
        }
        let Some(turn) = self.turns.next(stop).await else {
            return Ok(None);
        };
        // What arrived while others settled goes into this batch, too.
        if self.take_ready(&mut batch)? {
            batch.closed_by = ClosedBy::Full;
        }
        Ok(Some((batch, turn)))
    }

    /// Takes in what comes until the wait is over. Returns why, unless the batch is full.
    async fn gather(
        &mut self,
        batch: &mut Batch,
        stop: &CancellationToken,
    ) -> Result<Option<ClosedBy>, BrokerError> {
        tracing::trace!(commands = batch.commands.len(), "a batch begins");
        let deadline = Instant::now() + self.limits.wait;
        while !self.take_ready(batch)? {
            if self.limits.wait.is_zero() {
                return Ok(Some(ClosedBy::Drained));
            }
            tokio::select! {
                next = self.deliveries.recv() => self.add(batch, next.ok_or_else(channel_ended)??),
                () = sleep_until(deadline) => return Ok(Some(ClosedBy::Waited)),
                () = stop.cancelled() => return Ok(Some(ClosedBy::Shutdown)),
            }
        }
        Ok(None)
    }

    /// Takes in what is here already. Returns whether the batch is full.
    fn take_ready(&mut self, batch: &mut Batch) -> Result<bool, BrokerError> {
        while self.held.is_none()
            && batch.commands.len() < self.limits.orders_max
            && batch.size_bytes < self.limits.bytes_max
        {
            let Ok(next) = self.deliveries.try_recv() else {
                return Ok(false);
            };
            self.add(batch, next?);
        }
        Ok(true)
    }

    /// Adds an envelope, or holds it for the next batch if it does not fit.
    fn add(&mut self, batch: &mut Batch, next: Delivery) {
        if batch.commands.len() + next.commands.len() > self.limits.orders_max
            || batch.size_bytes + next.size_bytes > self.limits.bytes_max
        {
            self.held = Some(next);
            return;
        }
        batch.last_tag = next.tag;
        batch.size_bytes += next.size_bytes;
        batch.room.join(next.room);
        batch.commands.extend(next.commands);
        batch.faulty.extend(next.faulty);
    }

    async fn first(&mut self, stop: &CancellationToken) -> Result<Option<Delivery>, BrokerError> {
        if stop.is_cancelled() {
            return Ok(None);
        }
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        tokio::select! {
            () = stop.cancelled() => Ok(None),
            next = self.deliveries.recv() => next.ok_or_else(channel_ended)?.map(Some),
        }
    }
}

fn channel_ended() -> BrokerError {
    BrokerError::Ended
}

#[cfg(test)]
mod tests;
