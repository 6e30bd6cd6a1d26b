//! What a decision rests on, and what is left of the stock while it is made.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{id::OrderId, order::Sku};

use crate::{
    standing::Standing,
    stock::{Moved, Stock},
    store::{customers::Counts, unmatched::PaymentName},
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
    /// What customers have of SKUs with a limit per customer.
    pub(crate) counts: Counts,
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
    /// What customers have, if there is a limit.
    customers: HashMap<String, Count>,
}

/// What one customer has of a SKU.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    pieces: i64,
    /// How much of it is of this batch.
    moved: i64,
}

/// What the decision does to the count of one customer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted<'a> {
    pub(crate) sku: &'a Sku,
    pub(crate) customer: String,
    /// When the limit began.
    pub(crate) since: DateTime<Utc>,
    /// More pieces, or less.
    pub(crate) pieces: i64,
}

impl Line<'_> {
    /// What is free to sell.
    pub(super) fn available(&self) -> i64 {
        self.row.available - self.moved.taken + self.moved.released
    }

    /// Whether a customer may have so many more.
    pub(super) fn allows(&self, customer: &str, quantity: i64) -> bool {
        self.row.rules.limit.is_none_or(|limit| {
            let has = self.customers.get(customer).map_or(0, |count| count.pieces);
            has + quantity <= i64::from(limit.pieces)
        })
    }
}

impl<'a> Shelf<'a> {
    pub(super) fn of(stock: &'a BTreeMap<Sku, Stock>, counts: Counts) -> Self {
        let line = |row| Line {
            row,
            moved: Moved::default(),
            customers: HashMap::new(),
        };
        let mut shelf = Self(stock.iter().map(|(sku, row)| (sku, line(row))).collect());
        for (sku, customers) in counts {
            let Some(line) = shelf.0.get_mut(&sku) else {
                continue;
            };
            line.customers = customers
                .into_iter()
                .map(|(customer, pieces)| (customer, Count { pieces, moved: 0 }))
                .collect();
        }
        shelf
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

    /// Counts what a customer took at a time, or gave back, if there is a limit that counts it.
    pub(super) fn count(
        &mut self,
        sku: &Sku,
        customer: &str,
        taken_at: DateTime<Utc>,
        pieces: i64,
    ) {
        let Some(line) = self.0.get_mut(sku) else {
            return;
        };
        if line
            .row
            .rules
            .limit
            .is_none_or(|limit| taken_at < limit.since)
        {
            return;
        }
        let count = match line.customers.get_mut(customer) {
            Some(count) => count,
            None => line.customers.entry(customer.to_owned()).or_default(),
        };
        count.pieces += pieces;
        count.moved += pieces;
    }

    /// What was moved, and what customers have more or less of.
    pub(super) fn into_moved(self) -> (BTreeMap<&'a Sku, Moved>, Vec<Counted<'a>>) {
        let mut counted = Vec::new();
        let mut all_moved = BTreeMap::new();
        for (sku, line) in self.0 {
            if line.moved != Moved::default() {
                all_moved.insert(sku, line.moved);
            }
            let Some(limit) = line.row.rules.limit else {
                continue;
            };
            let changed = line.customers.into_iter().filter(|(_, it)| it.moved != 0);
            counted.extend(changed.map(|(customer, count)| Counted {
                sku,
                customer,
                since: limit.since,
                pieces: count.moved,
            }));
        }
        (all_moved, counted)
    }
}
