//! One partition: deliveries become batches, batches are settled, settled batches are acknowledged.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    id::OrderId,
    retry::Pauses,
    shutdown,
    topology::Repairs,
};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    acknowledge,
    announce::Announcer,
    batch::{Batch, BatchMetrics, Batches, Turns},
    dead_letters::{DeadLetter, DeadLetters},
    deliveries::{self, Consuming, Opener},
    ended::Ended,
    events::Publisher,
    seals::Faulty,
    settings::BatchLimits,
    settle::{Settled, Settler},
    standstill::{Grace, Standstill},
};

/// What every partition of a worker works with.
pub(crate) struct Workshop {
    /// The connection to consume from; acknowledgements go back on it.
    pub(crate) broker: Arc<Broker>,
    pub(crate) opener: Arc<Opener>,
    /// For whoever has to declare queues.
    pub(crate) pool: PgPool,
    pub(crate) settler: Settler,
    /// Where what cannot be settled goes.
    pub(crate) dead_letters: DeadLetters,
    pub(crate) announcer: Announcer,
    pub(crate) publisher: Publisher,
    /// When a batch is closed.
    pub(crate) limits: BatchLimits,
    pub(crate) turns: Turns,
    pub(crate) batch_metrics: BatchMetrics,
    /// How long after a stop the batch in hand may take to be settled.
    pub(crate) patience: Duration,
    /// Makes queues that are missing.
    pub(crate) repairs: Repairs,
    /// Number of intake queues.
    pub(crate) partitions: u16,
    /// How long after its end a hold expires.
    pub(crate) hold_grace: TimeDelta,
}

/// Consumes a partition until `stop`, again and again if the broker goes away.
///
/// Returns when the batch in hand is settled and acknowledged, or left to the broker because it could not be
/// settled in time, and the channel is closed: only then may another worker begin.
pub(crate) async fn work(workshop: &Workshop, partition: u16, stop: &CancellationToken) {
    let overdue = CancellationToken::new();
    let work = Box::pin(consume_again(workshop, partition, stop, &overdue));
    shutdown::hurry(stop, workshop.patience, &overdue, work).await;
}

async fn consume_again(
    workshop: &Workshop,
    partition: u16,
    stop: &CancellationToken,
    overdue: &CancellationToken,
) {
    let mut pauses = Pauses::new();
    while !stop.is_cancelled() {
        let mut settled_any = false;
        match consume(workshop, partition, stop, overdue, &mut settled_any).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(partition, %error, "consuming was interrupted"),
        }
        if settled_any {
            pauses = Pauses::new();
        }
        stop.run_until_cancelled(pauses.pause()).await;
    }
}

async fn consume(
    workshop: &Workshop,
    partition: u16,
    stop: &CancellationToken,
    overdue: &CancellationToken,
    settled_any: &mut bool,
) -> Result<(), BrokerError> {
    let Some(started) = stop.run_until_cancelled(start(workshop, partition)).await else {
        return Ok(());
    };
    let Consuming {
        channel,
        deliveries,
        opening: _opening,
    } = started?;
    let mut standstill = Standstill::new(workshop.hold_grace);
    let mut batches = Batches::of(deliveries, workshop.limits, workshop.turns.clone());
    while let Some((batch, turn)) = batches.next(stop).await? {
        let last_tag = batch.last_tag;
        let since = standstill.since(batch.since, || batch.age(Utc::now()));
        let grace = standstill.grace(since);
        let brought = turn.during(bring_to_end(workshop, partition, batch, grace, overdue));
        let (ended, is_complete) = brought.await;
        standstill.note_settled(since, Instant::now());
        let acknowledged = if is_complete {
            acknowledge::up_to(&channel, last_tag).await
        } else {
            Ok(())
        };
        let ended = Arc::new(ended);
        workshop.announcer.announce(Arc::clone(&ended));
        workshop.publisher.publish(ended);
        acknowledged?;
        if !is_complete {
            break;
        }
        *settled_any = true;
    }
    // Closing, and not cancelling the consumer first: that would let the next one begin while we
    // still hold deliveries.
    channel.close(200, "given up".into()).await?;
    Ok(())
}

/// Settles what can be settled, and sends the rest to the dead letters. Returns what became of the batch, and
/// whether that is all of it: once `overdue`, what is not done by then is not waited for.
async fn bring_to_end(
    workshop: &Workshop,
    partition: u16,
    batch: Batch,
    grace: Grace,
    overdue: &CancellationToken,
) -> (Ended, bool) {
    workshop.batch_metrics.record(&batch);
    let Batch {
        commands,
        faulty,
        size_bytes,
        room: _room,
        ..
    } = batch;
    let settling = workshop.settler.settle(partition, commands, grace, overdue);
    let settled = settling.await;
    let is_cut_short = settled.is_cut_short;
    let mut failed = Vec::new();
    let bury_all = bury_all(workshop, partition, &faulty, &settled, &mut failed);
    let is_complete = tokio::select! {
        biased;
        () = bury_all => !is_cut_short,
        () = overdue.cancelled() => false,
    };
    let ended = Ended {
        partition,
        size_bytes,
        settlements: settled.settlements,
        failed,
    };
    (ended, is_complete)
}

/// Sends to the dead letters what is not what it should be and what the database refuses.
async fn bury_all(
    workshop: &Workshop,
    partition: u16,
    faulty: &[Faulty],
    settled: &Settled,
    failed: &mut Vec<OrderId>,
) {
    let dead_letters = &workshop.dead_letters;
    for piece in faulty {
        let letter = DeadLetter::faulty(partition, piece);
        dead_letters.bury(&letter).await;
    }
    for refused in &settled.refused {
        failed.extend(dead_letters.bury_refused(partition, refused).await);
    }
}

async fn start(workshop: &Workshop, partition: u16) -> Result<Consuming, BrokerError> {
    let started =
        deliveries::consume(&workshop.broker, partition, Arc::clone(&workshop.opener)).await;
    if started.is_err() {
        // After the loss of a broker, or the deletion of a queue, the queue may be gone, too.
        workshop.repairs.request();
    }
    started
}
