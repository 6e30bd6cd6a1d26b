//! Claims about the rules of a sale, one decision at a time.

use chrono::TimeDelta;
use hotrow_shared::{order::Price, sale::Window};

use super::*;
use crate::{stock::CustomerLimit, store::customers::Counts};

/// The time of the settlements, in milliseconds.
const NOW_MS: i64 = 1_800_000_000_000;

fn at(ms: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_millis(NOW_MS + ms).expect("a time")
}

/// One item of a purchase: SKU, quantity and the price that the buyer saw.
type Wanted = (u8, u32, Option<i64>);

fn order(number: u64, customer: &str, accepted_ms: i64, items: &[Wanted]) -> Order {
    let item = |&(number, quantity, price): &Wanted| Item {
        sku: sku(number),
        quantity: quantity.try_into().expect("in bounds"),
        unit_price_minor: price.map(|price| Price::try_from(price).expect("in bounds")),
    };
    Order {
        id: IdMint::new("a secret of a test", None).mint(NOW_MS.unsigned_abs() + number),
        customer_id: CustomerId::try_from(customer).expect("a valid name"),
        items: Items::try_from(items.iter().map(item).collect::<Vec<_>>()).expect("valid items"),
        accepted_ms: NOW_MS + accepted_ms,
        key: None,
        request_id: None,
    }
}

/// The reasons of orders that are decided together at [`NOW_MS`]; none of those that get their goods.
fn reasons(
    orders: &[Order],
    stock: &BTreeMap<Sku, Stock>,
    counts: Counts,
) -> Vec<Option<&'static str>> {
    let candidates: Vec<_> = orders
        .iter()
        .map(|order| Candidate::Place {
            order,
            twins: Vec::new(),
        })
        .collect();
    let books = Books {
        known: &HashMap::new(),
        replayed: &HashMap::new(),
        standings: HashMap::new(),
        unmatched: HashSet::new(),
        counts,
        stock,
        at: at(0),
        grace: None,
    };
    let decision = decide(&candidates, books);
    let reason = |verdict: &Verdict| match verdict {
        Verdict::Settled(outcome) => outcome.reason.map(Reason::as_str),
        _ => panic!("every order is new"),
    };
    decision.verdicts.iter().map(reason).collect()
}

/// The reason of one order of one item.
fn reason(
    accepted_ms: i64,
    wanted: Wanted,
    change: impl FnOnce(&mut Stock),
) -> Option<&'static str> {
    let mut stock = stock([10, 10, 10]);
    change(stock.get_mut(&sku(wanted.0)).expect("a known SKU"));
    let order = order(0, "c", accepted_ms, &[wanted]);
    reasons(&[order], &stock, Counts::new())[0]
}

#[test]
fn an_order_is_of_the_window_if_it_was_accepted_in_it_whenever_it_is_settled() {
    let window = |accepted_ms| {
        reason(accepted_ms, (0, 1, None), |row| {
            row.rules.window = Window {
                opens_at: Some(at(-2_000)),
                closes_at: Some(at(-1_000)),
            };
        })
    };
    assert_eq!(window(-2_001), Some("not_open"));
    assert_eq!(window(-2_000), None);
    assert_eq!(window(-1_001), None);
    assert_eq!(window(-1_000), Some("closed"));
}

#[test]
fn a_clock_that_is_fast_opens_no_sale_before_its_time() {
    let opens = |row: &mut Stock| row.rules.window.opens_at = Some(at(1_000));
    assert_eq!(reason(2_000, (0, 1, None), opens), Some("not_open"));
}

#[test]
fn a_price_that_the_buyer_named_has_to_be_the_price() {
    assert_eq!(reason(0, (1, 1, Some(101)), |_| {}), None);
    assert_eq!(reason(0, (1, 1, Some(100)), |_| {}), Some("price_changed"));
    assert_eq!(reason(0, (1, 1, None), |_| {}), None);
}

#[test]
fn of_several_reasons_the_one_that_no_waiting_mends_is_told() {
    let mut stock = stock([0, 10, 10]);
    stock
        .get_mut(&sku(1))
        .expect("a known SKU")
        .rules
        .max_per_order = Some(1);
    let told = |items: &[Wanted]| {
        let order = order(0, "c", 0, items);
        reasons(&[order], &stock, Counts::new())[0]
    };
    assert_eq!(told(&[(0, 1, None)]), Some("sold_out"));
    assert_eq!(told(&[(0, 1, None), (1, 2, None)]), Some("limit_reached"));
    assert_eq!(
        told(&[(1, 2, None), (0, 1, Some(1))]),
        Some("price_changed")
    );
    assert_eq!(
        told(&[(0, 1, Some(1)), (2, 1, None)]),
        Some("currency_mismatch")
    );
    assert_eq!(
        told(&[(2, 1, None), (0, 1, None), (3, 1, None)]),
        Some("unknown_sku")
    );
}

#[test]
fn a_customer_gets_no_more_than_the_limit_in_one_batch_or_in_several() {
    let mut stock = stock([100, 100, 0]);
    let since = at(0) - TimeDelta::hours(1);
    for row in stock.values_mut() {
        row.rules.limit = Some(CustomerLimit { pieces: 3, since });
    }
    let before = HashMap::from([("b".to_owned(), 2)]);
    let counts = HashMap::from([(sku(0), before)]);
    let orders = [
        order(0, "a", 0, &[(0, 2, None)]),
        order(1, "a", 0, &[(0, 2, None)]),
        order(2, "a", 0, &[(0, 1, None), (1, 1, None)]),
        order(3, "b", 0, &[(0, 2, None)]),
        order(4, "b", 0, &[(1, 3, None)]),
        order(5, "b", 0, &[(1, 1, None), (0, 1, None)]),
        order(6, "b", 0, &[(0, 1, None)]),
    ];
    let (no, yes) = (Some("limit_reached"), None);
    assert_eq!(
        reasons(&orders, &stock, counts),
        [yes, no, yes, no, yes, no, yes]
    );
}
