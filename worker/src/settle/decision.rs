//! The decision: who gets the goods. Pure, so that it can be tested against a slow model.
//!
//! First come, first served, all or nothing per order: each order in turn is confirmed if every
//! one of its items fits into what the orders before it left, and a large order that does not fit
//! leaves everything to the smaller ones behind it.

use std::collections::{BTreeMap, HashMap};

use hotrow_shared::{
    envelope::Order,
    id::OrderId,
    order::{Item, Sku},
    outcome::Reason,
};

/// The locked inventory row of one SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    /// What is left.
    pub available: i64,
    /// The price of one, in the currency's smallest unit.
    pub unit_price_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Counts the writes of the row.
    pub version: i64,
}

/// An order together with the other ids that the same purchase may have been given.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The order.
    pub order: &'a Order,
    /// Other ids of the same customer and idempotency key.
    pub twins: Vec<OrderId>,
}

/// What becomes of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The customer has the goods.
    Confirmed {
        /// The price of everything, in the one currency of its items.
        total_minor: i64,
    },
    /// The customer does not.
    Rejected(Reason),
    /// This very id was settled before: nothing is written.
    Duplicate,
    /// The same purchase was settled as this other order: the id becomes a second name of it.
    Alias(OrderId),
}

/// What was sold of one SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sold {
    /// Pieces.
    pub quantity: i64,
    /// Orders that they went to.
    pub orders: i32,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// One verdict for each order, in the same sequence.
    pub verdicts: Vec<Verdict>,
    /// What leaves the stock; SKUs of which nothing was sold are absent.
    pub sold: BTreeMap<&'a Sku, Sold>,
}

/// Decides a batch.
///
/// `known` maps ids that are settled already to the order that they name: themselves, or the first
/// order of an alias. `stock` holds the rows of all known SKUs of the batch.
#[must_use]
pub(crate) fn decide<'a>(
    batch: &[Candidate<'a>],
    known: &HashMap<OrderId, OrderId>,
    stock: &BTreeMap<Sku, Stock>,
) -> Decision<'a> {
    let mut seen = HashMap::with_capacity(batch.len());
    let mut sold = BTreeMap::new();
    let first_order = |seen: &HashMap<OrderId, OrderId>, id: &OrderId| {
        seen.get(id).or_else(|| known.get(id)).copied()
    };
    let verdicts = batch.iter().map(|candidate| {
        let id = candidate.order.id;
        if first_order(&seen, &id).is_some() {
            return Verdict::Duplicate;
        }
        // A replayed order is not a repeat of itself, although a later name of it is known.
        let other = |twin| first_order(&seen, twin).filter(|first| *first != id);
        let first = candidate.twins.iter().find_map(other);
        seen.insert(id, first.unwrap_or(id));
        first.map_or_else(|| judge(candidate.order, stock, &mut sold), Verdict::Alias)
    });
    let verdicts = verdicts.collect();
    Decision { verdicts, sold }
}

/// Decides one order that is not known yet, and takes from the stock what it gets.
fn judge<'a>(
    order: &'a Order,
    stock: &BTreeMap<Sku, Stock>,
    sold: &mut BTreeMap<&'a Sku, Sold>,
) -> Verdict {
    let mut currency = None;
    let mut total_minor = 0;
    let mut fits = true;
    for Item { sku, quantity } in order.items.as_slice() {
        let Some(row) = stock.get(sku) else {
            return Verdict::Rejected(Reason::UnknownSku);
        };
        if *currency.get_or_insert(row.currency.as_str()) != row.currency {
            return Verdict::Rejected(Reason::CurrencyMismatch);
        }
        let gone = sold.get(sku).map_or(0, |sold| sold.quantity);
        fits &= gone + i64::from(*quantity) <= row.available;
        total_minor += row.unit_price_minor * i64::from(*quantity);
    }
    if !fits {
        return Verdict::Rejected(Reason::SoldOut);
    }
    for Item { sku, quantity } in order.items.as_slice() {
        let sold = sold.entry(sku).or_default();
        sold.quantity += i64::from(*quantity);
        sold.orders += 1;
    }
    Verdict::Confirmed { total_minor }
}

#[cfg(test)]
mod tests;
