//! One partition: deliveries become batches, batches are settled, settled batches are acknowledged.

use std::sync::Arc;

use hotrow_shared::{
    broker::{Broker, BrokerError},
    retry::Pauses,
    topology,
};
use tokio_util::sync::CancellationToken;

use crate::{
    acknowledge,
    announce::{Announcer, Ended},
    batch::{Batch, BatchMetrics, Batches, Turns},
    dead_letters::{DeadLetter, DeadLetters},
    deliveries::{self, Consuming},
    settings::BatchLimits,
    settle::Settler,
};

/// What every partition of a worker works with.
pub(crate) struct Workshop {
    /// The connection to consume from; acknowledgements go back on it.
    pub(crate) broker: Arc<Broker>,
    pub(crate) settler: Settler,
    /// Where what cannot be settled goes.
    pub(crate) dead_letters: DeadLetters,
    pub(crate) announcer: Announcer,
    /// When a batch is closed.
    pub(crate) limits: BatchLimits,
    pub(crate) turns: Turns,
    pub(crate) batch_metrics: BatchMetrics,
    /// Number of intake queues.
    pub(crate) partitions: u16,
}

/// Consumes a partition until `stop`, again and again if the broker goes away.
///
/// Returns when the batch in hand is settled and acknowledged and the channel is closed: only then
/// may another worker begin.
pub(crate) async fn work(workshop: &Workshop, partition: u16, stop: &CancellationToken) {
    let mut pauses = Pauses::new();
    while !stop.is_cancelled() {
        let mut settled_any = false;
        match consume(workshop, partition, stop, &mut settled_any).await {
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
    let mut batches = Batches::of(deliveries, workshop.limits, workshop.turns.clone());
    while let Some((batch, turn)) = batches.next(stop).await? {
        let last_tag = batch.last_tag;
        let ended = turn.during(bring_to_end(workshop, partition, batch)).await;
        let acknowledged = acknowledge::up_to(&channel, last_tag).await;
        workshop.announcer.announce(ended);
        acknowledged?;
        *settled_any = true;
    }
    // Closing, and not cancelling the consumer first: that would let the next one begin while we
    // still hold deliveries.
    channel.close(200, "given up".into()).await?;
    Ok(())
}

/// Settles what can be settled, and sends the rest to the dead letters.
async fn bring_to_end(workshop: &Workshop, partition: u16, batch: Batch) -> Ended {
    workshop.batch_metrics.record(&batch);
    for piece in &batch.unreadable {
        let letter = DeadLetter::unreadable(partition, piece);
        workshop.dead_letters.bury(&letter).await;
    }
    let settled = workshop.settler.settle(partition, batch.orders).await;
    let mut failed = Vec::new();
    for refused in &settled.refused {
        let buried = workshop
            .dead_letters
            .bury_order(partition, &refused.order, &refused.detail);
        failed.extend(buried.await);
    }
    Ended {
        partition,
        settlements: settled.settlements,
        failed,
    }
}

async fn start(workshop: &Workshop, partition: u16) -> Result<Consuming, BrokerError> {
    let started = deliveries::consume(&workshop.broker, partition).await;
    if started.is_err() {
        // After the loss of a broker, or the deletion of a queue, the topology may be gone, too.
        let Workshop {
            broker,
            settler,
            partitions,
            ..
        } = workshop;
        if let Err(error) = topology::repair(broker, &settler.pool, *partitions).await {
            tracing::warn!(partition, %error, "the queues are not fit for work");
        }
    }
    started
}
