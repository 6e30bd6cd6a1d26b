//! New orders: first come, first served, all or nothing per order. Each order in turn gets its goods if
//! every one of its items fits into what is left, and a large order that does not fit leaves everything to
//! the smaller ones behind it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use hotrow_shared::{envelope::Order, id::OrderId, order::Item, sale::Refusal};

use super::{
    books::{Books, Shelf},
    verdict::Verdict,
};
use crate::{
    document::{Outcome, accepted_at},
    stock::Hold,
};

/// Orders of this batch by their ids, as [`Books::known`] has those of the batches before.
pub(super) type Seen = HashMap<OrderId, Option<OrderId>>;

/// Decides a new order, and takes from the shelf what it gets.
pub(super) fn decide(
    order: &Order,
    twins: &[OrderId],
    books: &Books<'_, '_>,
    seen: &mut Seen,
    shelf: &mut Shelf<'_>,
) -> Verdict {
    let first_order =
        |seen: &Seen, id: &OrderId| seen.get(id).or_else(|| books.known.get(id)).copied();
    let id = order.id;
    if first_order(seen, &id).is_some() {
        return Verdict::Duplicate;
    }
    // A replayed order is not a repeat of itself, although a later name of it is known.
    let other = |twin| {
        first_order(seen, twin)
            .flatten()
            .filter(|first| *first != id && is_within_a_day(*first, id))
    };
    let first = twins.iter().find_map(other);
    seen.insert(id, Some(first.unwrap_or(id)));
    if let Some(first) = first {
        return Verdict::Alias(first);
    }
    let outcome = judge(order, books.at, shelf);
    let revision = books.replayed.get(&id).map_or(1, |before| before + 1);
    Verdict::Settled(Outcome {
        revision,
        ..outcome
    })
}

/// Whether one of the two can be a repeat of the other. The second name of an order is no new purchase that
/// could be repeated: from the second midnight on its key counts as new, however often it was repeated.
fn is_within_a_day(one: OrderId, other: OrderId) -> bool {
    one.day().0.abs_diff(other.day().0) <= 1
}

/// Decides one order that is not known yet.
fn judge(order: &Order, at: DateTime<Utc>, shelf: &mut Shelf<'_>) -> Outcome {
    let items = order.items.as_slice();
    // Nothing is settled before it is accepted, whatever the clock said that noted when.
    let accepted_at = accepted_at(order).min(at);
    let refusals = items
        .iter()
        .filter_map(|item| refusal(item, order, accepted_at, shelf));
    if let Some(reason) = refusals.min().and_then(Refusal::reason) {
        return Outcome::rejected(reason);
    }
    let customer = order.customer_id.as_str();
    let mut total_minor = 0;
    let mut hold: Option<Hold> = None;
    for row in items
        .iter()
        .filter_map(|item| shelf.line(&item.sku))
        .map(|line| line.row)
    {
        // A cart has the shortest hold of its items, and is held whole.
        hold = match (hold, row.hold) {
            (Some(hold), Some(other)) => Some(hold.shorter(other)),
            (hold, other) => hold.or(other),
        };
    }
    for Item { sku, quantity, .. } in items {
        let quantity = i64::from(*quantity);
        let price = shelf.line(sku).map_or(0, |line| line.row.unit_price_minor);
        total_minor += price * quantity;
        shelf.change(sku, |moved| {
            moved.taken += quantity;
            moved.orders += 1;
            if hold.is_some() {
                moved.held += quantity;
            }
        });
        shelf.count(sku, customer, at, quantity);
    }
    match hold {
        Some(hold) => Outcome::reserved(total_minor, hold),
        None => Outcome::confirmed(total_minor),
    }
}

/// Why one item of an order is not sold, if so.
fn refusal(
    item: &Item,
    order: &Order,
    accepted_at: DateTime<Utc>,
    shelf: &Shelf<'_>,
) -> Option<Refusal> {
    let Some(line) = shelf.line(&item.sku) else {
        return Some(Refusal::UnknownSku);
    };
    let (row, rules) = (line.row, line.row.rules);
    let quantity = i64::from(item.quantity);
    let first = order.items.as_slice().first();
    let first = first.and_then(|first| shelf.line(&first.sku));
    if first.is_some_and(|first| first.row.currency != row.currency) {
        return Some(Refusal::CurrencyMismatch);
    }
    let seen = item.unit_price_minor.map(i64::from);
    if seen.is_some_and(|seen| seen != row.unit_price_minor) {
        return Some(Refusal::PriceChanged);
    }
    if let Some(refusal) = rules.window.refusal(accepted_at) {
        return Some(refusal);
    }
    let is_too_much = rules
        .max_per_order
        .is_some_and(|most| quantity > most.into());
    if is_too_much || !line.allows(order.customer_id.as_str(), quantity) {
        return Some(Refusal::LimitReached);
    }
    (quantity > line.available()).then_some(Refusal::SoldOut)
}
