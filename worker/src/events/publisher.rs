//! Publishes the events of settled batches from memory, beside settling.

use std::{sync::Arc, time::Duration};

use hotrow_shared::{publish::PublishError, topology::Repairs};
use sqlx::PgPool;
use tokio::sync::mpsc;

use super::{
    sender::Sender,
    settlement,
    tables::{self, Span, TellError},
};
use crate::{
    ended::{Ended, Inbox, Waiting},
    settle::{Settlement, Told},
    store::{outbox, within},
};

/// Batches that may wait for their events to be published. What does not fit stays in the outbox for the sweep.
const WAITING_MAX: usize = 64;
/// Most bytes of envelopes of batches that wait.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most rows of the outbox that are removed together.
const DONE_MAX: usize = 64;
/// How long the database may take to remove them, or to read payments.
const DATABASE_MAX: Duration = Duration::from_secs(5);

/// Hands settled batches to the task that publishes their events. Without events there is none.
#[derive(Clone)]
pub(crate) struct Publisher(Option<Inbox>);

impl Publisher {
    /// Publishes nothing.
    pub(crate) const OFF: Self = Self(None);

    /// A publisher, and the task that works for it until the last clone is dropped.
    pub(crate) fn new(
        sender: Sender,
        pool: PgPool,
        repairs: Repairs,
        tells_rejected: bool,
    ) -> (Self, impl Future<Output = ()>) {
        let (inbox, batches) = Inbox::bounded(WAITING_MAX, WAITING_BYTES_MAX);
        let publishing = Publishing {
            sender,
            pool,
            repairs,
            tells_rejected,
            done: Vec::new(),
        };
        (Self(Some(inbox)), publishing.run(batches))
    }

    /// Publishes the events of a batch, soon.
    pub(crate) fn publish(&self, ended: Arc<Ended>) {
        let Some(inbox) = &self.0 else { return };
        let has_events = ended.settlements.iter().any(|it| it.told.is_some());
        if has_events && !inbox.offer(ended) {
            tracing::debug!("the events of a batch are left to the sweep");
        }
    }
}

struct Publishing {
    sender: Sender,
    pool: PgPool,
    repairs: Repairs,
    tells_rejected: bool,
    /// Rows of the outbox whose events the stream has.
    done: Vec<i64>,
}

impl Publishing {
    async fn run(mut self, mut batches: mpsc::Receiver<Waiting>) {
        while let Some((ended, _room)) = batches.recv().await {
            for settlement in &ended.settlements {
                let Some(told) = &settlement.told else {
                    continue;
                };
                if let Err(error) = self.publish(settlement, told).await {
                    tracing::warn!(%error, "events wait in the outbox");
                    self.sender.forget();
                    if let TellError::Publish(PublishError::NotTaken) = error {
                        self.repairs.request();
                    }
                    // The others of the batch would wait for the same broker.
                    break;
                }
            }
            if batches.is_empty() || self.done.len() >= DONE_MAX {
                self.remove_done().await;
            }
        }
    }

    async fn publish(&mut self, settlement: &Settlement, told: &Told) -> Result<(), TellError> {
        let has_unmatched =
            settlement::write(settlement, self.tells_rejected, &mut self.sender).await?;
        if has_unmatched {
            let mut connection = self.pool.acquire().await?;
            let span = Span::moment(settlement.at);
            tables::write_unmatched(&mut connection, span, &mut self.sender).await?;
        }
        self.sender.flush().await?;
        self.done.push(told.outbox_id);
        Ok(())
    }

    /// Removes rows of the outbox. Where that fails, the sweep publishes their events a second time.
    async fn remove_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let removed = within(DATABASE_MAX, outbox::remove(&self.pool, &self.done)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "events that are out stay in the outbox, and are published again");
        }
        self.done.clear();
    }
}
