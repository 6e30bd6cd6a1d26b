//! Outcomes: the documents of orders that were settled lately.
//!
//! A cache of two generations: the young one is filled, and when it is full it becomes the old one,
//! whose predecessor is dropped. That bounds the memory, costs one insertion per outcome, and takes
//! one lock for a whole message of news. Entries never change, so nothing has to be expired.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use hotrow_shared::id::OrderId;

/// Outcomes in a generation: of a sale at full speed half a second, of a usual one all day. What is
/// older, the database tells.
const GENERATION_MAX: usize = 25_000;
/// Documents in a generation, in bytes. Usual ones are some 450 bytes each; those of the largest carts
/// are seven times as long.
const GENERATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Outcomes of lately settled orders.
#[derive(Default)]
pub(crate) struct Outcomes {
    generations: RwLock<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<OrderId, Bytes>,
    young_bytes: usize,
    old: HashMap<OrderId, Bytes>,
}

impl Outcomes {
    /// The document of an order, if it was settled lately.
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

    /// Remembers documents.
    pub(crate) fn remember(&self, documents: impl IntoIterator<Item = (OrderId, Bytes)>) {
        let mut generations = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (id, document) in documents {
            generations.insert(id, document);
        }
    }
}

impl Generations {
    fn insert(&mut self, id: OrderId, document: Bytes) {
        let full = self.young.len() >= GENERATION_MAX
            || self.young_bytes + document.len() > GENERATION_BYTES_MAX;
        if full {
            self.old = std::mem::replace(&mut self.young, HashMap::with_capacity(GENERATION_MAX));
            self.young_bytes = 0;
        }
        self.young_bytes += document.len();
        self.young.insert(id, document);
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

    #[test]
    fn the_newest_outcomes_are_remembered_and_their_number_is_bounded() {
        let outcomes = Outcomes::default();
        let ids = ids(GENERATION_MAX * 3);
        outcomes.remember(ids.iter().map(|id| (*id, Bytes::from_static(b"{}"))));
        assert!(outcomes.of(ids[0]).is_none());
        let newest = &ids[GENERATION_MAX * 2..];
        assert!(newest.iter().all(|id| outcomes.of(*id).is_some()));
    }

    #[test]
    fn large_documents_push_out_the_old_ones_before_they_fill_the_memory() {
        let outcomes = Outcomes::default();
        let large = Bytes::from(vec![b' '; GENERATION_BYTES_MAX / 8]);
        let ids = ids(32);
        outcomes.remember(ids.iter().map(|id| (*id, large.clone())));
        let remembered = ids.iter().filter(|id| outcomes.of(**id).is_some()).count();
        assert_eq!(remembered, 16, "two generations of eight");
        assert!(outcomes.of(ids[31]).is_some());
    }
}
