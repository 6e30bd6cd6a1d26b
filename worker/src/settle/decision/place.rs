//! New orders: first come, first served, all or nothing per order. Each order in turn gets its goods if
//! every one of its items fits into what is left, and a large order that does not fit leaves everything to
//! the smaller ones behind it.

use std::collections::HashMap;

use hotrow_shared::{envelope::Order, id::OrderId, order::Item, outcome::Reason};

use super::{
    books::{Books, Shelf},
    verdict::Verdict,
};
use crate::{document::Outcome, stock::Hold};

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
    let outcome = judge(order, shelf);
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
fn judge(order: &Order, shelf: &mut Shelf<'_>) -> Outcome {
    let items = order.items.as_slice();
    let mut currency = None;
    let mut total_minor = 0;
    let mut fits = true;
    let mut hold: Option<Hold> = None;
    for Item { sku, quantity } in items {
        let Some(line) = shelf.line(sku) else {
            return Outcome::rejected(Reason::UnknownSku);
        };
        let row = line.row;
        if *currency.get_or_insert(row.currency.as_str()) != row.currency {
            return Outcome::rejected(Reason::CurrencyMismatch);
        }
        fits &= i64::from(*quantity) <= line.available();
        total_minor += row.unit_price_minor * i64::from(*quantity);
        // A cart has the shortest hold of its items, and is held whole.
        hold = match (hold, row.hold) {
            (Some(hold), Some(other)) => Some(hold.shorter(other)),
            (hold, other) => hold.or(other),
        };
    }
    if !fits {
        return Outcome::rejected(Reason::SoldOut);
    }
    for Item { sku, quantity } in items {
        let quantity = i64::from(*quantity);
        shelf.change(sku, |moved| {
            moved.taken += quantity;
            moved.orders += 1;
            if hold.is_some() {
                moved.held += quantity;
            }
        });
    }
    match hold {
        Some(hold) => Outcome::reserved(total_minor, hold),
        None => Outcome::confirmed(total_minor),
    }
}
