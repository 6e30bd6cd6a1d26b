//! Publishes the events of settled batches from memory, beside settling.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{publish::PublishError, topology::Repairs};
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    sender::Sender,
    settlement,
    tables::{self, TellError},
};
use crate::{
    ended::{Ended, Inbox, Waiting},
    settle::{Settlement, Told},
    store::{
        outbox::{self, OWN_FOR},
        told::Span,
        within,
    },
    telling::Telling,
};

/// Batches that may wait for their events to be published. What does not fit stays in the outbox for the sweep.
const WAITING_MAX: usize = 64;
/// Most bytes of envelopes of batches that wait.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long events wait for those of other batches, to share a message: small batches come by the hundred a second.
const LINGER: Duration = Duration::from_millis(20);
/// Most settlements whose events wait so.
const WRITTEN_MAX: usize = 64;
/// Most rows of the outbox that are removed together.
const DONE_MAX: usize = 256;
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
        telling: Telling,
    ) -> (Self, impl Future<Output = ()>) {
        let (inbox, batches) = Inbox::bounded(WAITING_MAX, WAITING_BYTES_MAX);
        let publishing = Publishing {
            sender,
            pool,
            repairs,
            telling,
            written: Rows::default(),
            done: Rows::default(),
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
    telling: Telling,
    written: Rows,
    done: Rows,
}

/// Rows of the outbox, and until when something has to happen to them.
#[derive(Default)]
struct Rows {
    ids: Vec<i64>,
    until: Option<Instant>,
}

impl Rows {
    fn add(&mut self, ids: impl IntoIterator<Item = i64>, wait: Duration) {
        self.ids.extend(ids);
        self.until.get_or_insert_with(|| Instant::now() + wait);
    }

    fn take(&mut self) -> Vec<i64> {
        self.until = None;
        std::mem::take(&mut self.ids)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl Publishing {
    async fn run(mut self, mut batches: mpsc::Receiver<Waiting>) {
        while let Some(batch) = self.next(&mut batches).await {
            if let Some((ended, _room)) = batch {
                self.write(&ended).await;
            }
            if self.written.is_over() || self.written.ids.len() >= WRITTEN_MAX {
                self.flush().await;
            }
            if self.done.is_over() || self.done.ids.len() >= DONE_MAX {
                self.remove_done().await;
            }
        }
        self.flush().await;
        self.remove_done().await;
    }

    /// The next batch, or nothing if something has to be done before it comes. None at the end.
    async fn next(&self, batches: &mut mpsc::Receiver<Waiting>) -> Option<Option<Waiting>> {
        let until = [self.written.until, self.done.until];
        match until.into_iter().flatten().min() {
            None => batches.recv().await.map(Some),
            Some(until) => match timeout_at(until, batches.recv()).await {
                Ok(batch) => batch.map(Some),
                Err(_) => Some(None),
            },
        }
    }

    /// Writes the events of a batch into messages.
    async fn write(&mut self, ended: &Ended) {
        for settlement in &ended.settlements {
            let Some(told) = settlement.told.as_ref().filter(|told| is_ours(told)) else {
                continue;
            };
            if let Err(error) = self.write_settlement(settlement).await {
                self.leave(&error);
                // The others of the batch would wait for the same broker.
                return;
            }
            self.written.add([told.outbox_id], LINGER);
        }
    }

    async fn write_settlement(&mut self, settlement: &Settlement) -> Result<(), TellError> {
        let has_unmatched = settlement::write(settlement, self.telling, &mut self.sender).await?;
        if has_unmatched {
            within(DATABASE_MAX, self.write_unmatched(settlement.at)).await??;
        }
        Ok(())
    }

    /// Publishes what is written.
    async fn flush(&mut self) {
        match self.sender.flush().await {
            Ok(()) => self.done.add(self.written.take(), DONE_FOR_MAX),
            Err(error) => self.leave(&error.into()),
        }
    }

    /// Leaves what is written to the sweep.
    fn leave(&mut self, error: &TellError) {
        tracing::warn!(%error, "events wait in the outbox");
        self.sender.forget();
        self.written.take();
        if let TellError::Publish(PublishError::NotTaken) = error {
            self.repairs.request();
        }
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
        let done = self.done.take();
        if done.is_empty() {
            return;
        }
        let removed = within(DATABASE_MAX, outbox::remove(&self.pool, &done)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "events that are out stay in the outbox, and are published again");
        }
    }
}

/// Whether the sweep leaves the events of a settlement to us, for long enough to publish them.
fn is_ours(told: &Told) -> bool {
    told.since.elapsed() + MARGIN < OWN_FOR
}
