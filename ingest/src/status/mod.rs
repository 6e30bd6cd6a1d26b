//! The status path: what became of an order, from the cache, from the database, or when it comes.

pub(crate) mod handler;
pub(crate) mod outcomes;
pub(crate) mod reader;

use std::{sync::Arc, time::Duration};

use hotrow_shared::id::{IdMint, OrderId};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    outcomes::Outcomes,
    reader::{Found, NoAnswer, Reader},
};
use crate::backlog::Backlog;

/// While a client waits, the database is asked this often, because news may be lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Answers what became of orders.
pub(crate) struct StatusDesk {
    /// Tells our ids from made-up ones.
    pub(crate) mint: IdMint,
    /// Lately settled orders.
    pub(crate) outcomes: Arc<Outcomes>,
    /// All settled orders.
    pub(crate) reader: Reader,
    /// How long what is queued will wait.
    pub(crate) backlog: Arc<Backlog>,
    /// Ends every wait.
    pub(crate) shutdown: CancellationToken,
}

impl StatusDesk {
    /// What became of an order by now.
    ///
    /// # Errors
    /// It is not in the cache and the database does not answer.
    pub(crate) async fn find(&self, id: OrderId) -> Result<Found, NoAnswer> {
        if let Some(document) = self.outcomes.of(id) {
            return Ok(Found::Settled(document));
        }
        let found = self.reader.read(id).await?;
        if let Found::Settled(document) = &found {
            self.outcomes.keep(id, document.clone());
        }
        Ok(found)
    }

    /// What became of an order, as soon as it is settled and at the latest after `wait`.
    ///
    /// # Errors
    /// As [`Self::find`], at the end of the wait.
    pub(crate) async fn find_within(&self, id: OrderId, wait: Duration) -> Result<Found, NoAnswer> {
        let deadline = Instant::now() + wait;
        let mut found = self.find(id).await;
        while matches!(found, Ok(Found::Queued) | Err(NoAnswer)) && Instant::now() < deadline {
            let Some(news) = self.outcomes.expect(id) else {
                break;
            };
            // Once more, now that no news can be missed.
            found = self.find(id).await;
            if !matches!(found, Ok(Found::Queued) | Err(NoAnswer)) {
                break;
            }
            let next_look = deadline.min(Instant::now() + LOOK_INTERVAL);
            tokio::select! {
                _ = timeout_at(next_look, news) => {}
                () = self.shutdown.cancelled() => break,
            }
            found = self.find(id).await;
        }
        found
    }
}
