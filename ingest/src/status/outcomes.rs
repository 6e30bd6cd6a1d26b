//! Outcomes: the documents of orders that were settled lately, and who waits for one.
//!
//! A cache of two generations: the young one is filled, and when it is full it becomes the old one,
//! whose predecessor is dropped. That bounds the memory, costs one insertion per outcome, and takes
//! one lock for a whole message of news. Entries never change, so nothing has to be expired.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use hotrow_shared::id::OrderId;
use tokio::sync::oneshot;

/// Outcomes in a generation. Two full generations of some 450 bytes each are about 22 MB: of a sale at
/// full speed half a second, of a usual one all day. What is older, the database tells.
const GENERATION_MAX: usize = 25_000;
/// Clients that may wait at the same time; beyond, an order is answered as it is.
const WAITING_MAX: usize = 100_000;

/// Outcomes of lately settled orders.
#[derive(Default)]
pub(crate) struct Outcomes {
    generations: RwLock<Generations>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<OrderId, Bytes>,
    old: HashMap<OrderId, Bytes>,
}

#[derive(Default)]
struct Waiting {
    count: usize,
    by_order: HashMap<OrderId, Vec<oneshot::Sender<()>>>,
}

impl Outcomes {
    /// The document of an order, if it was settled lately.
    #[must_use]
    pub(crate) fn of(&self, id: OrderId) -> Option<Bytes> {
        let generations = self
            .generations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        generations
            .young
            .get(&id)
            .or_else(|| generations.old.get(&id))
            .cloned()
    }

    /// Takes in outcomes, and wakes who waits for them or for orders that were found settled.
    pub(crate) fn hear(
        &self,
        documents: impl Iterator<Item = (OrderId, Bytes)>,
        found: &[OrderId],
    ) {
        let mut news = Vec::with_capacity(documents.size_hint().0 + found.len());
        {
            let mut generations = self
                .generations
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for (id, document) in documents {
                news.push(id);
                generations.insert(id, document);
            }
        }
        news.extend(found);
        self.wake(&news);
    }

    /// Keeps a document that was read from the database.
    pub(crate) fn keep(&self, id: OrderId, document: Bytes) {
        self.generations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, document);
    }

    /// Waits for news of an order, from now on. `None` if too many wait already.
    #[must_use]
    pub(crate) fn expect(&self, id: OrderId) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.count >= WAITING_MAX {
            waiting.forget_gone();
        }
        if waiting.count >= WAITING_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let waiters = waiting.by_order.entry(id).or_default();
        // Whoever gave up leaves room when the next one comes.
        let gone = waiters.extract_if(.., |waiter| waiter.is_closed()).count();
        waiters.push(sender);
        waiting.count = waiting.count + 1 - gone;
        Some(receiver)
    }

    fn wake(&self, news: &[OrderId]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.by_order.is_empty() {
            return;
        }
        for id in news {
            for waiter in waiting.by_order.remove(id).into_iter().flatten() {
                waiting.count -= 1;
                let _ = waiter.send(());
            }
        }
    }
}

impl Generations {
    fn insert(&mut self, id: OrderId, document: Bytes) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::replace(&mut self.young, HashMap::with_capacity(GENERATION_MAX));
        }
        self.young.insert(id, document);
    }
}

impl Waiting {
    fn forget_gone(&mut self) {
        self.by_order.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.count = self.by_order.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;

    use super::*;

    #[test]
    fn the_newest_outcomes_are_kept_and_the_memory_is_bounded() {
        let mint = IdMint::new("a secret of a test", None);
        let outcomes = Outcomes::default();
        let ids: Vec<_> = (0..GENERATION_MAX * 3)
            .map(|ms| mint.mint(ms as u64))
            .collect();
        outcomes.hear(ids.iter().map(|id| (*id, Bytes::from_static(b"{}"))), &[]);
        assert!(outcomes.of(ids[0]).is_none());
        assert!(
            ids[GENERATION_MAX * 2..]
                .iter()
                .all(|id| outcomes.of(*id).is_some())
        );
    }

    #[tokio::test]
    async fn news_wake_who_waits_for_the_order_and_nobody_else() {
        let mint = IdMint::new("a secret of a test", None);
        let outcomes = Outcomes::default();
        let (one, other) = (mint.mint(1), mint.mint(2));
        let woken = outcomes.expect(one).expect("room");
        let mut asleep = outcomes.expect(other).expect("room");
        outcomes.hear(std::iter::empty(), &[one]);
        woken.await.expect("news");
        assert!(asleep.try_recv().is_err());
    }
}
