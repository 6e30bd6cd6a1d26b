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

use crate::{
    document::Outcome,
    stock::{Sold, Stock},
};

/// An order together with the other ids that the same purchase may have been given.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    pub(crate) order: &'a Order,
    /// Other ids of the same customer and idempotency key.
    pub(crate) twins: Vec<OrderId>,
}

/// What becomes of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has its first outcome.
    Settled(Outcome),
    /// This very id was settled before: nothing is written.
    Duplicate,
    /// The same purchase was settled as this other order: the id becomes a second name of it.
    Alias(OrderId),
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision<'a> {
    /// One verdict for each order, in the same sequence.
    pub(crate) verdicts: Vec<Verdict>,
    /// What leaves the stock; SKUs of which nothing was sold are absent.
    pub(crate) sold: BTreeMap<&'a Sku, Sold>,
}

/// Decides a batch.
///
/// `known` maps ids that are settled already to the order that they name: themselves, or the first
/// order of an alias, unless that is no longer kept. `stock` holds the rows of all known SKUs of the batch.
pub(crate) fn decide<'a>(
    batch: &[Candidate<'a>],
    known: &HashMap<OrderId, Option<OrderId>>,
    stock: &BTreeMap<Sku, Stock>,
) -> Decision<'a> {
    let mut seen = HashMap::with_capacity(batch.len());
    let mut sold = BTreeMap::new();
    let first_order =
        |seen: &HashMap<_, _>, id: &OrderId| seen.get(id).or_else(|| known.get(id)).copied();
    let verdicts = batch.iter().map(|candidate| {
        let id = candidate.order.id;
        if first_order(&seen, &id).is_some() {
            return Verdict::Duplicate;
        }
        // A replayed order is not a repeat of itself, although a later name of it is known.
        let other = |twin| {
            first_order(&seen, twin)
                .flatten()
                .filter(|first| *first != id && is_within_a_day(*first, id))
        };
        let first = candidate.twins.iter().find_map(other);
        seen.insert(id, Some(first.unwrap_or(id)));
        match first {
            Some(first) => Verdict::Alias(first),
            None => Verdict::Settled(judge(candidate.order, stock, &mut sold)),
        }
    });
    let verdicts = verdicts.collect();
    Decision { verdicts, sold }
}

/// Whether one of the two can be a repeat of the other. The second name of an order is no new purchase that
/// could be repeated: from the second midnight on its key counts as new, however often it was repeated.
fn is_within_a_day(one: OrderId, other: OrderId) -> bool {
    one.day().0.abs_diff(other.day().0) <= 1
}

/// Decides one order that is not known yet, and takes from the stock what it gets.
fn judge<'a>(
    order: &'a Order,
    stock: &BTreeMap<Sku, Stock>,
    sold: &mut BTreeMap<&'a Sku, Sold>,
) -> Outcome {
    let mut currency = None;
    let mut total_minor = 0;
    let mut fits = true;
    for Item { sku, quantity } in order.items.as_slice() {
        let Some(row) = stock.get(sku) else {
            return Outcome::rejected(Reason::UnknownSku);
        };
        if *currency.get_or_insert(row.currency.as_str()) != row.currency {
            return Outcome::rejected(Reason::CurrencyMismatch);
        }
        let gone = sold.get(sku).map_or(0, |sold| sold.quantity);
        fits &= gone + i64::from(*quantity) <= row.available;
        total_minor += row.unit_price_minor * i64::from(*quantity);
    }
    if !fits {
        return Outcome::rejected(Reason::SoldOut);
    }
    for Item { sku, quantity } in order.items.as_slice() {
        let sold = sold.entry(sku).or_default();
        sold.quantity += i64::from(*quantity);
        sold.orders += 1;
    }
    Outcome::confirmed(total_minor)
}

#[cfg(test)]
mod tests;
