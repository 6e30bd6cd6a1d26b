//! What the buyers of the second act were told, counted as they hear it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

/// What became of held orders. Each of them was paid in time or cancelled, or it expired; some of those that
/// expired were paid all the same, too late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, FromRow)]
pub(crate) struct Counts {
    /// Orders that got a hold.
    pub(crate) reserved: i64,
    /// Orders that were paid in time.
    pub(crate) paid: i64,
    pub(crate) cancelled: i64,
    /// Orders whose hold ended unpaid, those that were paid late included.
    pub(crate) expired: i64,
    /// Orders that a late payment confirmed, because their goods were still there.
    pub(crate) late_paid: i64,
    /// Late payments that came to nothing, because the goods were gone.
    pub(crate) unmatched: i64,
}

impl Counts {
    /// Orders that are held now.
    pub(crate) fn held(&self) -> i64 {
        self.reserved - self.paid - self.cancelled - self.expired
    }

    /// Orders that are paid for good.
    pub(crate) fn sold(&self) -> i64 {
        self.paid + self.late_paid
    }
}

/// All that the buyers heard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) counts: Counts,
    /// The ids of all orders with a 202.
    pub(crate) accepted: Vec<Uuid>,
}

/// Where all buyers note what they hear.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Told>);

impl Tally {
    /// Notes an order with a 202. A buyer notes it once, however often its answer came.
    pub(crate) fn accept(&self, order_id: Uuid) {
        self.told().accepted.push(order_id);
    }

    /// Counts something. Returns the counts with it.
    pub(crate) fn count(&self, what: impl FnOnce(&mut Counts)) -> Counts {
        let mut told = self.told();
        what(&mut told.counts);
        told.counts
    }

    /// What is counted by now, and how many orders were accepted.
    pub(crate) fn progress(&self) -> (Counts, usize) {
        let told = self.told();
        (told.counts, told.accepted.len())
    }

    /// All of it.
    pub(crate) fn so_far(&self) -> Told {
        self.told().clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
