//! Repeats: what was asked with which idempotency key, as far as this process knows.
//!
//! Only for the client's sake: that a key moves stock once is the worker's work and needs no memory
//! here.

use std::time::Duration;

use hotrow_shared::{id::OrderId, order::Items};
use moka::sync::Cache;

/// Keyed orders that are remembered, some 20 MB.
const REMEMBERED_MAX: u64 = 100_000;
/// How long: an order id follows from the key for one day, and its twin for another.
const REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// A short hash of what was asked for.
pub(crate) type Fingerprint = u64;

/// The fingerprint of the items. The customer is part of the order id.
#[must_use]
pub(crate) fn fingerprint(items: &Items) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    for item in items.as_slice() {
        hasher
            .update(item.sku.as_str().as_bytes())
            .update(&[0])
            .update(&u32::from(item.quantity).to_le_bytes());
        if let Some(price) = item.unit_price_minor {
            hasher.update(&i64::from(price).to_le_bytes());
        }
        hasher.update(&[u8::from(item.unit_price_minor.is_some())]);
    }
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(head)
}

/// The fingerprints of lately accepted keyed orders.
pub(crate) struct Repeats(Cache<OrderId, Fingerprint>);

impl Repeats {
    /// Remembers nothing yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(REMEMBERED_FOR)
                .build(),
        )
    }

    /// Whether the order is known and asked for something else.
    #[must_use]
    pub(crate) fn contradict(&self, id: OrderId, fingerprint: Fingerprint) -> bool {
        self.0.get(&id).is_some_and(|known| known != fingerprint)
    }

    /// Whether the order was accepted here.
    #[must_use]
    pub(crate) fn remembers(&self, id: OrderId) -> bool {
        self.0.contains_key(&id)
    }

    /// Remembers an order that is, or may be, queued.
    pub(crate) fn remember(&self, id: OrderId, fingerprint: Fingerprint) {
        self.0.insert(id, fingerprint);
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new()
    }
}
