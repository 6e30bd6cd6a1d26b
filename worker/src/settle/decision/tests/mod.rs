//! The decision against a model that is too slow to be wrong in the same way: it keeps one
//! list of everything that ever happened and reads it from the start for every question.

use hotrow_shared::{
    envelope::Order,
    id::{IdMint, IdempotencyKey, OrderId},
    order::{CustomerId, Item, Items},
    outcome::{Reason, Status},
};
use proptest::prelude::*;

use std::collections::HashSet;

use chrono::DateTime;

use super::*;
use crate::{
    document::Outcome,
    stock::{Hold, Rules, Stock},
};

mod life;
mod rules;

/// What a batch of new orders rests on.
fn decide_new<'a>(
    batch: &[Candidate<'_>],
    known: &HashMap<OrderId, Option<OrderId>>,
    stock: &'a BTreeMap<Sku, Stock>,
) -> Decision<'a> {
    let replayed = HashMap::new();
    let books = Books {
        known,
        replayed: &replayed,
        standings: HashMap::new(),
        unmatched: HashSet::new(),
        counts: HashMap::new(),
        stock,
        at: DateTime::default(),
        grace: None,
    };
    decide(batch, books)
}

fn id_of(candidate: &Candidate<'_>) -> OrderId {
    match candidate {
        Candidate::Place { order, .. } => order.id,
        Candidate::Change(change) => change.order_id,
    }
}

/// Keys of one customer: the same number is the same purchase, if the first of its orders is of the
/// day before, of the same day or of the day after.
#[derive(Debug, Clone)]
struct Wish {
    key: u8,
    day: u64,
    items: Vec<(u8, u32)>,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let items = proptest::collection::btree_map(0u8..4, 1u32..6, 1..4)
        .prop_map(|items| items.into_iter().collect());
    let wish = (0u8..40, 0u64..4, items).prop_map(|(key, day, items)| Wish { key, day, items });
    proptest::collection::vec(wish, 0..60)
}

fn sku(number: u8) -> Sku {
    Sku::try_from(format!("sku-{number}").as_str()).expect("a valid name")
}

/// SKU 3 is unknown, SKU 2 has another currency.
fn stock(available: [i64; 3]) -> BTreeMap<Sku, Stock> {
    let row = |(number, available): (u8, i64)| {
        let currency = if number == 2 { "USD" } else { "EUR" };
        (
            sku(number),
            Stock {
                available,
                held: 0,
                hold: None,
                rules: Rules::default(),
                unit_price_minor: 100 + i64::from(number),
                currency: currency.to_owned(),
                version: 1,
            },
        )
    };
    (0u8..).zip(available).map(row).collect()
}

fn orders(wishes: &[Wish]) -> Vec<Candidate<'static>> {
    let mint = IdMint::new("a secret of a test", None);
    let customer = CustomerId::try_from("c").expect("a valid name");
    let day = hotrow_shared::id::Day(20_000);
    let candidate = |wish: &Wish| {
        let key = IdempotencyKey::try_from(format!("k{}", wish.key)).expect("a valid key");
        let id = mint.derive(
            &customer,
            &key,
            hotrow_shared::id::Day(day.0 + wish.day).start_ms(),
        );
        let items: Vec<_> = wish
            .items
            .iter()
            .map(|&(number, quantity)| Item {
                sku: sku(number),
                quantity: quantity.try_into().expect("in bounds"),
                unit_price_minor: None,
            })
            .collect();
        let items = Items::try_from(items).expect("valid items");
        let twins = mint
            .twins(id, &customer, &key, hotrow_shared::id::Day(day.0 + 3))
            .collect();
        let order = Order {
            id,
            customer_id: customer.clone(),
            items,
            accepted_ms: 0,
            key: Some(key),
            request_id: None,
        };
        Candidate::Place {
            order: Box::leak(Box::new(order)),
            twins,
        }
    };
    wishes.iter().map(candidate).collect()
}

/// What became of a wish.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Answer {
    Confirmed(i64),
    Rejected(Reason),
    SameIdAgain,
    SamePurchaseAgain,
}

impl Answer {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Settled(Outcome {
                reason: Some(reason),
                ..
            }) => Self::Rejected(*reason),
            Verdict::Settled(outcome) => Self::Confirmed(outcome.total_minor.expect("a price")),
            Verdict::Duplicate => Self::SameIdAgain,
            Verdict::Alias(_) => Self::SamePurchaseAgain,
            _ => panic!("no verdict on a new order: {verdict:?}"),
        }
    }
}

fn answers(verdicts: &[Verdict]) -> Vec<Answer> {
    verdicts.iter().map(Answer::of).collect()
}

fn model(wishes: &[Wish], available: [i64; 3]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    for (at, wish) in wishes.iter().enumerate() {
        let earlier = &wishes[..at];
        let taken = |number: u8| -> i64 {
            let confirmed = earlier
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| matches!(answer, Answer::Confirmed(_)));
            confirmed
                .flat_map(|(wish, _)| &wish.items)
                .filter(|item| item.0 == number)
                .map(|item| i64::from(item.1))
                .sum()
        };
        // Only an order that was decided by itself can be repeated, and only for a day.
        let decided = |(other, answer): (&Wish, &Answer)| {
            other.key == wish.key
                && other.day.abs_diff(wish.day) <= 1
                && matches!(answer, Answer::Confirmed(_) | Answer::Rejected(_))
        };
        let answer = if earlier
            .iter()
            .any(|other| other.key == wish.key && other.day == wish.day)
        {
            Answer::SameIdAgain
        } else if earlier.iter().zip(&answers).any(decided) {
            Answer::SamePurchaseAgain
        } else {
            let currencies = wish.items.iter().map(|item| item.0 == 2);
            let mixed = currencies.clone().any(|it| it) && currencies.clone().any(|it| !it);
            if wish.items.iter().any(|item| item.0 == 3) {
                Answer::Rejected(Reason::UnknownSku)
            } else if mixed {
                Answer::Rejected(Reason::CurrencyMismatch)
            } else if wish
                .items
                .iter()
                .any(|item| taken(item.0) + i64::from(item.1) > available[usize::from(item.0)])
            {
                Answer::Rejected(Reason::SoldOut)
            } else {
                Answer::Confirmed(
                    wish.items
                        .iter()
                        .map(|item| (100 + i64::from(item.0)) * i64::from(item.1))
                        .sum(),
                )
            }
        };
        answers.push(answer);
    }
    answers
}

proptest! {
    #[test]
    fn the_decision_is_the_one_of_the_slow_model(wishes in wishes(), available in prop::array::uniform3(0i64..40)) {
        let batch = orders(&wishes);
        let stock = stock(available);
        let decision = decide_new(&batch, &HashMap::new(), &stock);
        let answers = answers(&decision.verdicts);
        prop_assert_eq!(answers, model(&wishes, available));
        for (sku, row) in &stock {
            let taken = decision.moved.get(sku).map_or(0, |moved| moved.taken);
            prop_assert!(taken <= row.available);
        }
    }

    #[test]
    fn a_batch_cut_in_two_is_decided_as_the_whole(wishes in wishes(), available in prop::array::uniform3(0i64..40), cut in 0usize..60) {
        let batch = orders(&wishes);
        let cut = cut.min(batch.len());
        let whole_stock = stock(available);
        let whole = decide_new(&batch, &HashMap::new(), &whole_stock);

        let first = decide_new(&batch[..cut], &HashMap::new(), &whole_stock);
        let mut left = whole_stock.clone();
        for (sku, row) in &mut left {
            row.available -= first.moved.get(sku).map_or(0, |moved| moved.taken);
        }
        let mut known = HashMap::new();
        for (candidate, verdict) in batch.iter().zip(&first.verdicts) {
            let id = id_of(candidate);
            match verdict {
                Verdict::Alias(of) => { known.insert(id, Some(*of)); }
                Verdict::Settled(_) => { known.insert(id, Some(id)); }
                _ => {}
            }
        }
        let second = decide_new(&batch[cut..], &known, &left);
        let halves: Vec<_> = first.verdicts.into_iter().chain(second.verdicts).collect();
        prop_assert_eq!(answers(&halves), answers(&whole.verdicts));
    }
}

#[test]
fn a_large_order_that_does_not_fit_does_not_block_a_small_one_behind_it() {
    let wish = |key, quantity| Wish {
        key,
        day: 0,
        items: vec![(0, quantity)],
    };
    let batch = orders(&[wish(1, 8), wish(2, 5), wish(3, 2)]);
    let stock = stock([10, 0, 0]);
    let decision = decide_new(&batch, &HashMap::new(), &stock);
    let expected = [
        Answer::Confirmed(800),
        Answer::Rejected(Reason::SoldOut),
        Answer::Confirmed(200),
    ];
    assert_eq!(answers(&decision.verdicts), expected);
    let expected = Moved {
        taken: 10,
        orders: 2,
        ..Moved::default()
    };
    assert_eq!(decision.moved[&sku(0)], expected);
}

#[test]
fn a_cart_with_one_held_item_is_held_whole_for_the_shortest_time() {
    let cart = Wish {
        key: 1,
        day: 0,
        items: vec![(0, 2), (1, 3)],
    };
    let batch = orders(&[cart]);
    let mut stock = stock([10, 10, 0]);
    for (number, seconds) in [(0, 600), (1, 60)] {
        if let Some(row) = stock.get_mut(&sku(number)) {
            row.hold = Some(Hold {
                seconds,
                seconds_max: 3_600,
            });
        }
    }
    let decision = decide_new(&batch, &HashMap::new(), &stock);
    let Verdict::Settled(outcome) = &decision.verdicts[0] else {
        panic!("{:?}", decision.verdicts);
    };
    assert_eq!(outcome.status, Status::Reserved);
    assert_eq!(outcome.hold.map(|hold| hold.seconds), Some(60));
    let held: Vec<_> = decision.moved.values().map(|moved| moved.held).collect();
    assert_eq!(held, [2, 3]);
}
