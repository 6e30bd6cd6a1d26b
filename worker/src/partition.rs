//! One partition: deliveries become batches, batches are settled, settled batches are acknowledged.

use std::sync::Arc;

use hotrow_shared::{
    broker::{Broker, BrokerError},
    retry::Pauses,
    topology::Repairs,
};
use lapin::Channel;
use tokio_util::sync::CancellationToken;

use crate::{
    acknowledge,
    announce::Announcer,
    batch::{Batches, Turns},
    deliveries::Deliveries,
    settings::BatchLimits,
    settle::Settler,
};

/// What every partition of a worker works with.
pub struct Workshop {
    /// The connection to consume from; acknowledgements go back on it.
    pub broker: Arc<Broker>,
    /// Settles what was consumed.
    pub settler: Settler,
    /// Tells what became of it.
    pub announcer: Announcer,
    /// When a batch is closed.
    pub limits: BatchLimits,
    /// Whose turn it is.
    pub turns: Turns,
    /// Makes queues that are missing.
    pub repairs: Repairs,
    /// Number of intake queues.
    pub partitions: u16,
}

/// Consumes a partition until `stop`, again and again if the broker goes away.
///
/// Returns when the batch in hand is settled and acknowledged and the channel is closed: only then
/// may another worker begin.
pub async fn work(workshop: &Workshop, partition: u16, stop: &CancellationToken) {
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
    let (channel, deliveries) = started?;
    let mut batches = Batches::of(deliveries, workshop.limits, workshop.turns.clone());
    while let Some((batch, turn)) = batches.next(stop).await? {
        let last_tag = batch.last_tag;
        let settled = turn.during(workshop.settler.settle(partition, batch)).await;
        let acknowledged = acknowledge::up_to(&channel, last_tag).await;
        workshop.announcer.announce(settled);
        acknowledged?;
        *settled_any = true;
    }
    // Closing, and not cancelling the consumer first: that would let the next one begin while we
    // still hold deliveries.
    channel.close(200, "given up".into()).await?;
    Ok(())
}

async fn start(workshop: &Workshop, partition: u16) -> Result<(Channel, Deliveries), BrokerError> {
    let started = Deliveries::of(&workshop.broker, partition).await;
    if started.is_err() {
        // After the loss of a broker, or the deletion of a queue, the queue may be gone, too.
        workshop.repairs.request();
    }
    started
}
