//! Publishes the events of settled batches from memory, beside settling.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{publish::PublishError, topology::Repairs};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::Instant};

use super::{
    sender::Sender,
    settlement,
    tables::{self, Span, TellError},
};
use crate::{
    ended::{Ended, Inbox, Waiting},
    settle::{Settlement, Told},
    store::{
        outbox::{self, OWN_FOR},
        within,
    },
};

/// Batches that may wait for their events to be published. What does not fit stays in the outbox for the sweep.
const WAITING_MAX: usize = 64;
/// Most bytes of envelopes of batches that wait.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most rows of the outbox that are removed together.
const DONE_MAX: usize = 64;
/// How long such a row may wait for others.
const DONE_FOR_MAX: Duration = Duration::from_millis(500);
/// How long before the sweep may take a settlement it is left to it.
const MARGIN: Duration = Duration::from_secs(2);
/// How long the database may take to remove rows, or to read payments.
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
            done_since: Instant::now(),
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
    /// Rows of the outbox whose events the stream has, and since when the first of them waits to be removed.
    done: Vec<i64>,
    done_since: Instant,
}

impl Publishing {
    async fn run(mut self, mut batches: mpsc::Receiver<Waiting>) {
        while let Some((ended, _room)) = batches.recv().await {
            for settlement in &ended.settlements {
                let Some(told) = settlement.told.as_ref().filter(|told| is_ours(told)) else {
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
            let is_old = self.done_since.elapsed() >= DONE_FOR_MAX;
            if batches.is_empty() || is_old || self.done.len() >= DONE_MAX {
                self.remove_done().await;
            }
        }
        self.remove_done().await;
    }

    async fn publish(&mut self, settlement: &Settlement, told: &Told) -> Result<(), TellError> {
        let has_unmatched =
            settlement::write(settlement, self.tells_rejected, &mut self.sender).await?;
        if has_unmatched {
            within(DATABASE_MAX, self.write_unmatched(settlement.at)).await??;
        }
        self.sender.flush().await?;
        if self.done.is_empty() {
            self.done_since = Instant::now();
        }
        self.done.push(told.outbox_id);
        Ok(())
    }

    /// Writes the events of payments that did not pay. They are few, so no message gets full and is published here.
    async fn write_unmatched(
        &mut self,
        at: DateTime<Utc>,
    ) -> Result<Result<(), TellError>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        // Not to be used again by anybody if its answer is given up.
        connection.close_on_drop();
        let span = Span::moments(vec![at]);
        Ok(tables::write_unmatched(&mut connection, &span, &mut self.sender).await)
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

/// Whether the sweep leaves the events of a settlement to us, for long enough to publish them.
fn is_ours(told: &Told) -> bool {
    told.since.elapsed() + MARGIN < OWN_FOR
}
