//! What a settlement tells by events. Pure.

use std::collections::BTreeMap;

use hotrow_shared::{
    event::{Cause, InventoryChanged},
    order::Sku,
};
use tokio::time::Instant;

use super::decision::Verdict;
use crate::{
    stock::{Moved, Stock},
    telling::{Telling, type_of},
};

/// What a settlement tells by events, besides what became of its orders.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The row that says that the events are not out.
    pub(crate) outbox_id: i64,
    /// When that row was written.
    pub(crate) since: Instant,
    /// SKUs that are sold out, or have goods again.
    pub(crate) inventory: Vec<InventoryChanged>,
}

/// Whether there is an event of it.
pub(super) fn is_told(verdict: &Verdict, telling: Telling) -> bool {
    match verdict {
        Verdict::Settled(outcome) => telling.wants(type_of(outcome.status, false)),
        Verdict::Changed(..) | Verdict::Unmatched(_) => true,
        Verdict::Duplicate
        | Verdict::Alias(_)
        | Verdict::Unchanged
        | Verdict::Conflict
        | Verdict::UnmatchedBefore => false,
    }
}

/// The SKUs that are sold out by a settlement, or have goods again, as they are afterwards.
pub(super) fn turned(
    moved: &BTreeMap<&Sku, Moved>,
    stock: &BTreeMap<Sku, Stock>,
) -> Vec<InventoryChanged> {
    let turned = moved.iter().filter_map(|(sku, moved)| {
        let before = stock.get(*sku)?;
        let available = before.available - moved.taken + moved.released;
        let cause = match (before.available > 0, available > 0) {
            (true, false) => Cause::SoldOut,
            (false, true) => Cause::Reopened,
            _ => return None,
        };
        Some(InventoryChanged {
            sku: (*sku).clone(),
            available,
            held: before.held + moved.held,
            version: before.version + 1,
            cause,
        })
    });
    turned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::Rules;

    #[test]
    fn stock_is_told_when_it_turns_and_with_what_is_there_afterwards() {
        let sku = Sku::try_from("chair").expect("a valid name");
        let told = |available, taken, released, held| {
            let row = Stock {
                available,
                held: 5,
                hold: None,
                rules: Rules::default(),
                unit_price_minor: 100,
                currency: "EUR".to_owned(),
                version: 7,
            };
            let moved = Moved {
                taken,
                released,
                held,
                orders: 1,
            };
            let moved = BTreeMap::from([(&sku, moved)]);
            let mut told = turned(&moved, &BTreeMap::from([(sku.clone(), row)]));
            told.pop()
                .map(|it| (it.cause, it.available, it.held, it.version))
        };
        assert_eq!(told(3, 3, 0, 3), Some((Cause::SoldOut, 0, 8, 8)));
        assert_eq!(told(0, 0, 2, -2), Some((Cause::Reopened, 2, 3, 8)));
        assert_eq!(told(3, 2, 0, 0), None);
        assert_eq!(told(3, 5, 4, 0), None, "in between is not seen");
        assert_eq!(told(0, 2, 2, 0), None);
    }
}
