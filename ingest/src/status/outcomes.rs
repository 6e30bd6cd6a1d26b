//! Outcomes: the documents of orders that became something lately, by revision.
//!
//! A cache of two generations: the young one is filled, and when it is full it becomes the old one,
//! whose predecessor is dropped. That bounds the memory, costs one insertion per outcome, and takes
//! one lock for a whole message of news. A lower revision never replaces a higher one, so what this process shows
//! never goes back, and what may still change is fresh for [`SHOWN_FOR`] only.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use hotrow_shared::id::OrderId;
use tokio::time::Instant;

/// How long a state that may still change is shown after it was last known to be true.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(2);
/// Outcomes in a generation: of a sale at full speed half a second, of a usual one all day. What is
/// older, the database tells.
const GENERATION_MAX: usize = 25_000;
/// Documents in a generation, in bytes. Usual ones are some 550 bytes each; those of the largest carts
/// are six times as long.
const GENERATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A settled order as it was at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Counts what became of the order.
    pub(crate) revision: i32,
    /// Whether nothing changes the order any more.
    pub(crate) is_final: bool,
    /// When this was last known to be true: when news of it came, or when a read that found it began.
    pub(crate) known_at: Instant,
    /// What `GET /v1/orders/{order_id}` shows.
    pub(crate) document: Bytes,
}

impl Outcome {
    /// Until when this may be shown without a look at the database.
    pub(crate) fn shown_until(&self) -> Option<Instant> {
        (!self.is_final).then(|| self.known_at + SHOWN_FOR)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.shown_until().is_none_or(|until| now < until)
    }
}

/// Outcomes of orders that changed lately.
#[derive(Default)]
pub(crate) struct Outcomes {
    generations: RwLock<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<OrderId, Outcome>,
    young_bytes: usize,
    old: HashMap<OrderId, Outcome>,
}

impl Outcomes {
    /// The newest known outcome of an order, however long ago it was known to be true.
    pub(crate) fn newest(&self, id: OrderId) -> Option<Outcome> {
        let generations = self
            .generations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        generations.of(id).cloned()
    }

    /// The outcome of an order, if it may be shown without a look at the database.
    pub(crate) fn fresh(&self, id: OrderId, now: Instant) -> Option<Outcome> {
        self.newest(id).filter(|outcome| outcome.is_fresh(now))
    }

    /// Remembers outcomes, each unless a later one of the order is known.
    pub(crate) fn remember(&self, outcomes: impl IntoIterator<Item = (OrderId, Outcome)>) {
        let mut generations = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (id, outcome) in outcomes {
            let is_older = |known: &Outcome| {
                (known.revision, known.known_at) > (outcome.revision, outcome.known_at)
            };
            if !generations.of(id).is_some_and(is_older) {
                generations.insert(id, outcome);
            }
        }
    }
}

impl Generations {
    fn of(&self, id: OrderId) -> Option<&Outcome> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    fn insert(&mut self, id: OrderId, outcome: Outcome) {
        let length = outcome.document.len();
        let full =
            self.young.len() >= GENERATION_MAX || self.young_bytes + length > GENERATION_BYTES_MAX;
        if full {
            self.old = std::mem::replace(&mut self.young, HashMap::with_capacity(GENERATION_MAX));
            self.young_bytes = 0;
        }
        self.young_bytes += length;
        if let Some(replaced) = self.young.insert(id, outcome) {
            self.young_bytes -= replaced.document.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;

    use super::*;

    fn ids(count: usize) -> Vec<OrderId> {
        let mint = IdMint::new("a secret of a test", None);
        (0..count).map(|ms| mint.mint(ms as u64)).collect()
    }

    fn outcome(revision: i32, known_at: Instant) -> Outcome {
        Outcome {
            revision,
            is_final: false,
            known_at,
            document: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn the_newest_outcomes_are_remembered_and_their_number_is_bounded() {
        let outcomes = Outcomes::default();
        let ids = ids(GENERATION_MAX * 3);
        let now = Instant::now();
        outcomes.remember(ids.iter().map(|id| (*id, outcome(1, now))));
        assert!(outcomes.newest(ids[0]).is_none());
        let newest = &ids[GENERATION_MAX * 2..];
        assert!(newest.iter().all(|id| outcomes.newest(*id).is_some()));
    }

    #[test]
    fn large_documents_push_out_the_old_ones_before_they_fill_the_memory() {
        let outcomes = Outcomes::default();
        let large = Outcome {
            document: Bytes::from(vec![b' '; GENERATION_BYTES_MAX / 8]),
            ..outcome(1, Instant::now())
        };
        let ids = ids(32);
        outcomes.remember(ids.iter().map(|id| (*id, large.clone())));
        let remembered = ids.iter().filter(|id| outcomes.newest(**id).is_some());
        assert_eq!(remembered.count(), 16, "two generations of eight");
        assert!(outcomes.newest(ids[31]).is_some());
    }

    #[test]
    fn an_order_that_changes_often_takes_the_room_of_one() {
        let outcomes = Outcomes::default();
        let id = ids(1)[0];
        let (now, large) = (Instant::now(), vec![b' '; GENERATION_BYTES_MAX / 4]);
        for revision in 1..=100 {
            let document = Bytes::from(large.clone());
            let changed = Outcome {
                document,
                ..outcome(revision, now)
            };
            outcomes.remember([(id, changed)]);
        }
        let generations = outcomes.generations.read().expect("no test panics with it");
        assert_eq!(generations.young_bytes, large.len());
        assert!(generations.old.is_empty());
    }

    #[test]
    fn a_lower_revision_never_replaces_a_higher_one() {
        let outcomes = Outcomes::default();
        let id = ids(1)[0];
        let now = Instant::now();
        outcomes.remember([(id, outcome(2, now))]);
        outcomes.remember([(id, outcome(1, now + SHOWN_FOR))]);
        let newest = outcomes.newest(id).expect("remembered");
        assert_eq!((newest.revision, newest.known_at), (2, now));
        // The same once more is known to be true for longer, and an earlier look takes nothing back.
        let later = now + SHOWN_FOR / 2;
        outcomes.remember([(id, outcome(2, later))]);
        outcomes.remember([(id, outcome(2, now))]);
        assert_eq!(outcomes.newest(id).expect("remembered").known_at, later);
    }

    #[test]
    fn what_may_still_change_is_fresh_for_a_while_and_what_is_final_for_good() {
        let outcomes = Outcomes::default();
        let ids = ids(2);
        let now = Instant::now();
        let cancelled = Outcome {
            is_final: true,
            ..outcome(3, now)
        };
        outcomes.remember([(ids[0], outcome(1, now)), (ids[1], cancelled)]);
        let almost = now + SHOWN_FOR - Duration::from_millis(1);
        assert!(outcomes.fresh(ids[0], almost).is_some());
        assert!(outcomes.fresh(ids[0], now + SHOWN_FOR).is_none());
        assert!(outcomes.fresh(ids[1], now + SHOWN_FOR * 100).is_some());
    }
}
