//! The status path: what became of an order, from the cache, from the database, or when it comes.

pub(crate) mod handler;
pub(crate) mod outcomes;
pub(crate) mod owner;
pub(crate) mod reader;
pub(crate) mod waiters;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use hotrow_shared::id::{IdMint, OrderId};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    outcomes::{Outcome, Outcomes},
    reader::{Found, NoAnswer, Reader},
    waiters::{Waiter, Waiters},
};
use crate::backlog::Backlog;

/// While a client waits, the database is asked this often, because news may be lost.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How much longer than its wait a question may take: the last look at the database.
pub(crate) const LAST_LOOK_MAX: Duration = Duration::from_millis(800);

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
    /// Takes in what orders became, and wakes who waits for them or for orders that were found settled.
    pub(crate) fn hear(
        &self,
        outcomes: impl Iterator<Item = (OrderId, Outcome)>,
        found: &[OrderId],
    ) {
        let mut settled = Vec::with_capacity(outcomes.size_hint().0);
        self.outcomes
            .remember(outcomes.inspect(|(id, _)| settled.push(*id)));
        self.waiters
            .wake(settled.into_iter().chain(found.iter().copied()));
    }
}

impl Finder {
    /// What became of orders by now, in the order asked. What memory may not tell is one look-up.
    ///
    /// # Errors
    /// Memory does not tell an order, and the database does not answer within [`reader::ANSWER_MAX`].
    pub(crate) async fn find(&self, ids: &[OrderId]) -> Result<Vec<Found>, NoAnswer> {
        let now = Instant::now();
        let mut answers: Vec<_> = ids
            .iter()
            .map(|id| self.lately.outcomes.fresh(*id, now).map(Found::Settled))
            .collect();
        let missing: Vec<_> = (0..ids.len()).filter(|at| answers[*at].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<_> = missing.iter().map(|at| ids[*at]).collect();
            for (at, found) in missing.into_iter().zip(self.read(&asked).await?) {
                answers[at] = Some(found);
            }
        }
        answers.into_iter().collect::<Option<_>>().ok_or(NoAnswer)
    }

    /// The newest state of an order that this process knows, however old it is.
    pub(crate) fn remembered(&self, id: OrderId) -> Option<Outcome> {
        self.lately.outcomes.newest(id)
    }

    /// What became of orders, by a look at the database that begins now.
    ///
    /// # Errors
    /// The database does not answer within [`reader::ANSWER_MAX`].
    pub(crate) async fn read(&self, ids: &[OrderId]) -> Result<Vec<Found>, NoAnswer> {
        let asked_at = Instant::now();
        let read = self.reader.read(ids.to_vec()).await?;
        let outcomes = &self.lately.outcomes;
        outcomes.remember(ids.iter().zip(&read).filter_map(|(id, found)| match found {
            Found::Settled(outcome) => Some((*id, outcome.clone())),
            _ => None,
        }));
        let newest = |(id, found): (&OrderId, Found)| shown(found, outcomes.newest(*id), asked_at);
        Ok(ids.iter().zip(read).map(newest).collect())
    }
}

/// What to show of an order that was read from the database, next to the newest outcome that is remembered.
fn shown(read: Found, remembered: Option<Outcome>, asked_at: Instant) -> Found {
    match (read, remembered) {
        (Found::Settled(_) | Found::Queued, Some(newest)) => Found::Settled(newest),
        // News that came during the read tells what became of the replay.
        (Found::Replayed, Some(newest)) if newest.known_at >= asked_at => Found::Settled(newest),
        (Found::Replayed, _) => Found::Queued,
        (read, _) => read,
    }
}

impl StatusDesk {
    /// What became of orders, as soon as all of them are settled and at the latest when the wait is over. With
    /// `after`, as soon as their revisions are higher. What `is_refused` by then is not waited for.
    ///
    /// # Errors
    /// As [`Finder::find`], at the end of the wait.
    pub(crate) async fn find_within(
        &self,
        ids: &[OrderId],
        wait: Duration,
        after: Option<i32>,
        is_refused: impl Fn(&[Found]) -> bool,
    ) -> Result<Vec<Found>, NoAnswer> {
        let end = Instant::now() + wait;
        loop {
            // First, so that no news is missed between the look and the wait.
            let mut waiters = self.register_waiters(ids, end, after);
            let found = tokio::select! {
                found = self.find_by(ids, end) => found,
                // The database may hang while the news arrives.
                () = all_news(&waiters), if !waiters.is_empty() => self.find_by(ids, end).await,
            };
            if found.as_ref().is_ok_and(|found| is_refused(found)) {
                return found;
            }
            let undecided = undecided(ids, &found, after);
            waiters.retain(|waiter| undecided.contains(&waiter.id()));
            if waiters.is_empty() {
                return found;
            }
            let next_look = end.min(next_look(&found, Instant::now()));
            tokio::select! {
                () = all_news(&waiters) => {}
                () = sleep_until(next_look) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// A waiter for each order that memory does not decide; none once the wait is over, or when too
    /// many wait already.
    fn register_waiters(&self, ids: &[OrderId], end: Instant, after: Option<i32>) -> Vec<Waiter> {
        let now = Instant::now();
        if now >= end || self.shutdown.is_cancelled() {
            return Vec::new();
        }
        let Lately { outcomes, waiters } = &*self.finder.lately;
        let unknown = ids.iter().filter(|id| {
            let known = outcomes.fresh(**id, now).map(Found::Settled);
            known.is_none_or(|found| !is_decided(&found, after))
        });
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
fn undecided(
    ids: &[OrderId],
    found: &Result<Vec<Found>, NoAnswer>,
    after: Option<i32>,
) -> Vec<OrderId> {
    match found {
        Ok(found) => {
            let all = ids.iter().zip(found);
            let undecided = all.filter(|(_, found)| !is_decided(found, after));
            undecided.map(|(id, _)| *id).collect()
        }
        Err(NoAnswer) => ids.to_vec(),
    }
}

/// Whether a client that knows the revision `after` has what it waits for. One that waits for more of a final order
/// waits to the end: it would ask again at once.
fn is_decided(found: &Found, after: Option<i32>) -> bool {
    match found {
        Found::Settled(outcome) => after.is_none_or(|after| outcome.revision > after),
        Found::Queued | Found::Replayed => false,
        Found::Dropped => true,
    }
}

/// When to look again for what was found, in case news is lost: memory must not tell it for longer than it may.
fn next_look(found: &Result<Vec<Found>, NoAnswer>, now: Instant) -> Instant {
    let usual = now + LOOK_INTERVAL;
    let stale = |found: &Found| match found {
        Found::Settled(outcome) => outcome.shown_until(),
        _ => None,
    };
    let found = found.iter().flatten();
    found.filter_map(stale).fold(usual, Instant::min)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{outcomes::SHOWN_FOR, *};

    fn outcome(revision: i32, known_at: Instant) -> Outcome {
        Outcome {
            revision,
            is_final: false,
            known_at,
            document: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_wait_behind_a_revision_ends_with_a_higher_one() {
        let settled = |revision| Found::Settled(outcome(revision, Instant::now()));
        assert!(!is_decided(&Found::Queued, None));
        assert!(!is_decided(&Found::Queued, Some(0)));
        assert!(is_decided(&settled(1), None), "settled, whatever follows");
        assert!(is_decided(&settled(1), Some(0)));
        assert!(!is_decided(&settled(1), Some(1)));
        assert!(is_decided(&settled(2), Some(1)));
    }

    #[test]
    fn the_database_is_asked_again_before_memory_tells_anything_for_too_long() {
        let now = Instant::now();
        let queued = Ok(vec![Found::Queued]);
        assert_eq!(next_look(&queued, now), now + LOOK_INTERVAL);
        assert_eq!(next_look(&Err(NoAnswer), now), now + LOOK_INTERVAL);
        let known_at = now - SHOWN_FOR / 2;
        let settled = Ok(vec![Found::Queued, Found::Settled(outcome(1, known_at))]);
        assert_eq!(next_look(&settled, now), known_at + SHOWN_FOR);
    }

    #[test]
    fn a_read_that_is_behind_shows_what_is_remembered() {
        let now = Instant::now();
        let newest = Found::Settled(outcome(2, now));
        let remembered = || Some(outcome(2, now));
        let behind = Found::Settled(outcome(1, now));
        assert_eq!(shown(behind, remembered(), now), newest);
        assert_eq!(shown(Found::Queued, remembered(), now), newest);
        assert_eq!(shown(Found::Replayed, remembered(), now), newest);
        let later = now + SHOWN_FOR;
        assert_eq!(shown(Found::Replayed, remembered(), later), Found::Queued);
        assert_eq!(shown(Found::Replayed, None, now), Found::Queued);
        assert_eq!(shown(Found::Queued, None, now), Found::Queued);
        assert_eq!(shown(Found::Dropped, remembered(), now), Found::Dropped);
    }
}
