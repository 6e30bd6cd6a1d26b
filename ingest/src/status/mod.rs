//! The status path: what became of an order, from the cache, from the database, or when it comes.

pub(crate) mod handler;
pub(crate) mod outcomes;
pub(crate) mod reader;
pub(crate) mod waiters;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hotrow_shared::id::{IdMint, OrderId};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    outcomes::Outcomes,
    reader::{Found, NoAnswer, Reader},
    waiters::{Waiter, Waiters},
};
use crate::backlog::Backlog;

/// While a client waits, the database is asked this often, because news may be lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How much longer than its wait a question may take: the last look at the database.
const LAST_LOOK_MAX: Duration = Duration::from_millis(800);

/// Answers what became of orders.
pub(crate) struct StatusDesk {
    /// Tells our ids from made-up ones.
    pub(crate) mint: IdMint,
    /// Finds settled orders.
    pub(crate) finder: Finder,
    /// How long what is queued will wait.
    pub(crate) backlog: Arc<Backlog>,
    /// Ends every wait.
    pub(crate) shutdown: CancellationToken,
}

/// Finds settled orders, in memory or in the database. Polls and the door have a reader each, so that
/// neither waits for the other.
pub(crate) struct Finder {
    /// What needs no look at the database.
    pub(crate) lately: Arc<Lately>,
    pub(crate) reader: Reader,
}

/// Lately settled orders, and who waits for one.
#[derive(Default)]
pub(crate) struct Lately {
    outcomes: Outcomes,
    waiters: Arc<Waiters>,
}

impl Lately {
    /// Takes in the documents of newly settled orders, and wakes who waits for them or for orders that
    /// were found settled.
    pub(crate) fn hear(
        &self,
        documents: impl Iterator<Item = (OrderId, Bytes)>,
        found: &[OrderId],
    ) {
        let mut settled = Vec::with_capacity(documents.size_hint().0);
        self.outcomes
            .remember(documents.inspect(|(id, _)| settled.push(*id)));
        self.waiters
            .wake(settled.into_iter().chain(found.iter().copied()));
    }
}

impl Finder {
    /// What became of orders by now, in the order asked. What is not in the cache is one look-up.
    ///
    /// # Errors
    /// An order is not in the cache, and the database does not answer within [`reader::ANSWER_MAX`].
    pub(crate) async fn find(&self, ids: &[OrderId]) -> Result<Vec<Found>, NoAnswer> {
        let mut answers: Vec<_> = ids
            .iter()
            .map(|id| self.lately.outcomes.of(*id).map(Found::Settled))
            .collect();
        let missing: Vec<_> = (0..ids.len()).filter(|at| answers[*at].is_none()).collect();
        if !missing.is_empty() {
            let asked = missing.iter().map(|at| ids[*at]).collect();
            let found = self.reader.read(asked).await?;
            let settled = missing
                .iter()
                .zip(&found)
                .filter_map(|(at, found)| match found {
                    Found::Settled(document) => Some((ids[*at], document.clone())),
                    _ => None,
                });
            self.lately.outcomes.remember(settled);
            for (at, found) in missing.into_iter().zip(found) {
                answers[at] = Some(found);
            }
        }
        answers.into_iter().collect::<Option<_>>().ok_or(NoAnswer)
    }
}

impl StatusDesk {
    /// What became of orders, as soon as all of them are settled and at the latest when the wait is over.
    ///
    /// # Errors
    /// As [`Finder::find`], at the end of the wait.
    pub(crate) async fn find_within(
        &self,
        ids: &[OrderId],
        wait: Duration,
    ) -> Result<Vec<Found>, NoAnswer> {
        let end = Instant::now() + wait;
        loop {
            // First, so that no news is missed between the look and the wait.
            let mut waiters = self.register_waiters(ids, end);
            let found = tokio::select! {
                found = self.find_by(ids, end) => found,
                // The database may hang while the news arrives.
                () = all_news(&waiters), if !waiters.is_empty() => self.find_by(ids, end).await,
            };
            let undecided = undecided(ids, &found);
            waiters.retain(|waiter| undecided.contains(&waiter.id()));
            if waiters.is_empty() {
                return found;
            }
            let next_look = end.min(Instant::now() + LOOK_INTERVAL);
            tokio::select! {
                () = all_news(&waiters) => {}
                () = sleep_until(next_look) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// A waiter for each order that is not known to be settled; none once the wait is over, or when too
    /// many wait already.
    fn register_waiters(&self, ids: &[OrderId], end: Instant) -> Vec<Waiter> {
        if Instant::now() >= end || self.shutdown.is_cancelled() {
            return Vec::new();
        }
        let Lately { outcomes, waiters } = &*self.finder.lately;
        let unknown = ids.iter().filter(|id| outcomes.of(**id).is_none());
        let registered: Option<_> = unknown.map(|id| waiters.register_waiter(*id)).collect();
        registered.unwrap_or_default()
    }

    /// Finds orders in time for a wait that ends then.
    async fn find_by(&self, ids: &[OrderId], end: Instant) -> Result<Vec<Found>, NoAnswer> {
        let found = timeout_at(end + LAST_LOOK_MAX, self.finder.find(ids)).await;
        found.unwrap_or(Err(NoAnswer))
    }
}

async fn all_news(waiters: &[Waiter]) {
    join_all(waiters.iter().map(Waiter::news)).await;
}

/// The orders of which there may be news.
fn undecided(ids: &[OrderId], found: &Result<Vec<Found>, NoAnswer>) -> Vec<OrderId> {
    match found {
        Ok(found) => {
            let queued = ids
                .iter()
                .zip(found)
                .filter(|(_, found)| **found == Found::Queued);
            queued.map(|(id, _)| *id).collect()
        }
        Err(NoAnswer) => ids.to_vec(),
    }
}
