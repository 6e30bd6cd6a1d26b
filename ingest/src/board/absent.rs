//! Products that are not there: only the database knows, so what somebody asks for and the board does not know is looked
//! up beside the purchase, which passes meanwhile.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hotrow_shared::order::Sku;
use moka::sync::Cache;

/// For how long it counts that the database had no such product. Whoever makes it may not be heard of sooner.
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// Products that are known not to be there, at some hundred bytes each.
const ABSENT_MAX: u64 = 20_000;
/// Products that are looked up at once.
const ASKED_MAX: usize = 500;

/// What is known of products that the board does not know.
pub(super) struct Absent {
    /// Those that the database did not have a moment ago.
    known: Cache<Sku, ()>,
    /// Those that somebody wanted since the last look.
    wanted: Mutex<HashSet<Sku>>,
}

impl Default for Absent {
    fn default() -> Self {
        Self {
            known: Cache::builder()
                .max_capacity(ABSENT_MAX)
                .time_to_live(ABSENT_FOR)
                .build(),
            wanted: Mutex::default(),
        }
    }
}

impl Absent {
    /// Whether the database did not have the product a moment ago. Asks for the next look at it.
    pub(super) fn is_known(&self, sku: &Sku) -> bool {
        let mut wanted = self.wanted();
        if wanted.len() < ASKED_MAX && !wanted.contains(sku) {
            wanted.insert(sku.clone());
        }
        drop(wanted);
        self.known.contains_key(sku)
    }

    /// The database does not have the product.
    pub(super) fn learn(&self, sku: &Sku) {
        self.known.insert(sku.clone(), ());
    }

    /// The product is there.
    pub(super) fn forget(&self, sku: &Sku) {
        self.known.invalidate(sku);
    }

    /// What to look up now.
    pub(super) fn take_wanted(&self) -> HashSet<Sku> {
        std::mem::take(&mut *self.wanted())
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<Sku>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
