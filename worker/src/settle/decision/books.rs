//! What a decision rests on, and what is left of the stock while it is made.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{id::OrderId, order::Sku};

use crate::{
    standing::Standing,
    stock::{Moved, Stock},
    store::unmatched::PaymentName,
};

/// Everything that a decision rests on, read behind the locks of the SKUs' rows.
#[derive(Debug)]
pub(crate) struct Books<'a, 'k> {
    /// Ids that are settled already, and the order that they name: themselves, or the first order of an alias,
    /// unless that is no longer kept.
    pub(crate) known: &'k HashMap<OrderId, Option<OrderId>>,
    /// Orders that were dead letters and are placed again, with the revisions that their readers have seen.
    pub(crate) replayed: &'k HashMap<OrderId, i32>,
    /// The orders that something is asked of, as they stand.
    pub(crate) standings: HashMap<OrderId, Standing>,
    /// Payments that did not pay their order, among those that come now.
    pub(crate) unmatched: HashSet<PaymentName>,
    /// The rows of all known SKUs.
    pub(crate) stock: &'a BTreeMap<Sku, Stock>,
    /// The time of the settlement, by the database's clock.
    pub(crate) at: DateTime<Utc>,
    /// How long after the end of a hold it expires; none while nothing may expire.
    pub(crate) grace: Option<TimeDelta>,
}

/// What is left of the stock while a batch is decided.
pub(super) struct Shelf<'a>(BTreeMap<&'a Sku, Line<'a>>);

/// The row of a SKU, and what the batch has done to it so far.
pub(super) struct Line<'a> {
    pub(super) row: &'a Stock,
    moved: Moved,
}

impl Line<'_> {
    /// What is free to sell.
    pub(super) fn available(&self) -> i64 {
        self.row.available - self.moved.taken + self.moved.released
    }
}

impl<'a> Shelf<'a> {
    pub(super) fn of(stock: &'a BTreeMap<Sku, Stock>) -> Self {
        let line = |row| Line {
            row,
            moved: Moved::default(),
        };
        Self(stock.iter().map(|(sku, row)| (sku, line(row))).collect())
    }

    /// The line of a SKU, if it is known.
    pub(super) fn line(&self, sku: &Sku) -> Option<&Line<'a>> {
        self.0.get(sku)
    }

    /// Moves some of a SKU. Nothing is moved of one that is not known: no order has it.
    pub(super) fn change(&mut self, sku: &Sku, change: impl FnOnce(&mut Moved)) {
        if let Some(line) = self.0.get_mut(sku) {
            change(&mut line.moved);
        }
    }

    /// What was moved.
    pub(super) fn into_moved(self) -> BTreeMap<&'a Sku, Moved> {
        let moved = self.0.into_iter().map(|(sku, line)| (sku, line.moved));
        moved
            .filter(|(_, moved)| *moved != Moved::default())
            .collect()
    }
}
