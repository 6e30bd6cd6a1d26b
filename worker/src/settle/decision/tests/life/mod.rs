//! The whole life of orders against a model that is too slow to be wrong in the same way: it counts the stock anew
//! from all orders for every question.

mod model;
mod steps;

use chrono::{TimeDelta, Utc};
use hotrow_shared::change::{Actor, Ask, Cancellation, Change, Expiry, Extension, Payment, Role};
use proptest::prelude::*;

use self::{
    model::Model,
    steps::{Amount, Came, GRACE_SECONDS, HOLD, ORDERS, START_MS, Step, What, steps},
};
use super::*;
use crate::{
    stock::CustomerLimit,
    store::{customers::Counts, unmatched::PaymentName},
};

fn order(number: usize) -> Order {
    let items: Vec<_> = ORDERS[number]
        .iter()
        .map(|&(number, quantity)| Item {
            sku: sku(number),
            quantity: quantity.try_into().expect("in bounds"),
            unit_price_minor: None,
        })
        .collect();
    Order {
        id: IdMint::new("a secret of a test", None).derive(
            &CustomerId::try_from("c").expect("a valid name"),
            &IdempotencyKey::try_from(format!("k{number}")).expect("a valid key"),
            START_MS.unsigned_abs(),
        ),
        customer_id: CustomerId::try_from("c").expect("a valid name"),
        items: Items::try_from(items).expect("valid items"),
        accepted_ms: START_MS,
        key: None,
        request_id: None,
    }
}

fn total(number: usize) -> i64 {
    let price = |&(sku, quantity): &(u8, u32)| (100 + i64::from(sku)) * i64::from(quantity);
    ORDERS[number].iter().map(price).sum()
}

fn change(step: &Step, now: DateTime<Utc>) -> Change {
    let order = order(step.order);
    let ask = match step.what {
        What::Confirm { reference, amount } => Ask::Confirm(Payment {
            reference: format!("pi_{reference}"),
            amount_minor: match amount {
                Amount::Unsaid => None,
                Amount::Right => Some(total(step.order)),
                Amount::Wrong => Some(total(step.order) + 1),
            },
            currency: None,
        }),
        What::Cancel { restock, .. } => Ask::Cancel(Cancellation {
            reason: None,
            restock,
        }),
        What::Extend { seconds } => Ask::Extend(Extension { seconds }),
        What::Place | What::Expire => Ask::Expire(Expiry {}),
    };
    let role = match step.what {
        What::Cancel {
            is_customer: true, ..
        } => Role::Customer,
        What::Place | What::Expire => Role::System,
        _ => Role::Shop,
    };
    let name = (role == Role::Customer).then(|| order.customer_id.as_str().to_owned());
    Change {
        order_id: order.id,
        skus: order
            .items
            .as_slice()
            .iter()
            .map(|item| item.sku.clone())
            .collect(),
        accepted_ms: now.timestamp_millis(),
        by: Actor { role, name },
        request_id: None,
        ticket: None,
        ask,
    }
}

/// What the tables would say, kept up by what the decisions write.
struct Tables {
    known: HashMap<OrderId, Option<OrderId>>,
    standings: HashMap<OrderId, Standing>,
    unmatched: HashSet<PaymentName>,
    counts: Counts,
    stock: BTreeMap<Sku, Stock>,
}

impl Tables {
    /// The one customer of all orders may have `pieces` of each SKU.
    fn of(available: [i64; 2], pieces: Option<i32>) -> Self {
        let mut stock = stock([available[0], available[1], 0]);
        let since = DateTime::UNIX_EPOCH;
        for row in stock.values_mut() {
            row.rules.limit = pieces.map(|pieces| CustomerLimit { pieces, since });
        }
        if let Some(row) = stock.get_mut(&sku(0)) {
            row.hold = Some(HOLD);
        }
        Self {
            known: HashMap::new(),
            standings: HashMap::new(),
            unmatched: HashSet::new(),
            counts: Counts::new(),
            stock,
        }
    }

    fn settle(&mut self, batch: &[Step], at: DateTime<Utc>) -> Vec<Came> {
        let orders: Vec<_> = batch.iter().map(|step| order(step.order)).collect();
        let changes: Vec<_> = batch.iter().map(|step| change(step, at)).collect();
        let candidates: Vec<_> = batch
            .iter()
            .zip(orders.iter().zip(&changes))
            .map(|(step, (order, change))| match step.what {
                What::Place => Candidate::Place {
                    order,
                    twins: Vec::new(),
                },
                _ => Candidate::Change(change),
            })
            .collect();
        let stock = self.stock.clone();
        let books = Books {
            known: &self.known,
            replayed: &HashMap::new(),
            standings: self.standings.clone(),
            unmatched: self.unmatched.clone(),
            counts: self.counts.clone(),
            stock: &stock,
            at,
            grace: Some(TimeDelta::seconds(GRACE_SECONDS)),
        };
        let Decision {
            verdicts,
            moved,
            counted,
        } = decide(&candidates, books);
        for counted in counted {
            let customers = self.counts.entry(counted.sku.clone()).or_default();
            *customers.entry(counted.customer).or_default() += counted.pieces;
        }
        for (sku, moved) in moved {
            let row = self.stock.get_mut(sku).expect("a known SKU");
            row.available += moved.released - moved.taken;
            row.held += moved.held;
        }
        for (candidate, verdict) in candidates.iter().zip(&verdicts) {
            match (candidate, verdict) {
                (Candidate::Place { order, .. }, Verdict::Settled(outcome)) => {
                    self.known.insert(order.id, Some(order.id));
                    let standing = Standing::of(order, *outcome, &stock, at);
                    self.standings.insert(order.id, standing);
                }
                (_, Verdict::Changed(standing, _)) => {
                    self.standings.insert(standing.id, (**standing).clone());
                }
                (Candidate::Change(change), Verdict::Unmatched(_)) => {
                    if let Ask::Confirm(payment) = &change.ask {
                        self.unmatched
                            .insert((change.order_id, payment.reference.clone()));
                    }
                }
                _ => {}
            }
        }
        verdicts.iter().map(Came::of).collect()
    }
}

proptest! {
    #[test]
    fn the_life_of_orders_is_the_one_of_the_slow_model_and_its_law_holds(
        steps in steps(), available in prop::array::uniform2(0i64..6), pieces in prop::option::of(1i32..6),
    ) {
        let mut tables = Tables::of(available, pieces);
        let mut model = Model::limited_to(pieces);
        let mut now = START_MS / 1_000;
        let mut left = &steps[..];
        while !left.is_empty() {
            let length = left.iter().position(|step| step.is_last).map_or(left.len(), |at| at + 1);
            let (batch, rest) = left.split_at(length);
            left = rest;
            // A settlement has one time.
            now += batch[0].seconds;
            let at = DateTime::from_timestamp(now, 0).expect("a time");
            let came = tables.settle(batch, at);
            let expected: Vec<_> = batch.iter().map(|step| model.step(step, now, available)).collect();
            prop_assert_eq!(&came, &expected);
            for number in 0u8..2 {
                let row = &tables.stock[&sku(number)];
                prop_assert!(row.available >= 0 && row.held >= 0);
                prop_assert_eq!(row.available, available[usize::from(number)] - model.gone(number));
                prop_assert_eq!(row.held, model.held(number));
                let counts = tables.counts.get(&sku(number));
                let counted = counts.and_then(|it| it.get("c")).copied().unwrap_or_default();
                if let Some(pieces) = pieces {
                    prop_assert_eq!(counted, model.owned(number));
                    prop_assert!(counted <= i64::from(pieces));
                }
            }
        }
    }
}

/// What comes of something that is asked of order 0, which is reserved, by somebody. A verdict without a change moves no
/// stock.
fn asked(what: What, role: Role, name: Option<&str>) -> Verdict {
    let mut tables = Tables::of([5, 5], None);
    let at = DateTime::from_timestamp(START_MS / 1_000, 0).expect("a time");
    let step = |what| Step {
        order: 0,
        what,
        seconds: 0,
        is_last: false,
    };
    assert_eq!(
        tables.settle(&[step(What::Place)], at),
        [Came::To(Status::Reserved, 1)]
    );
    // Its hold is over by then.
    let at = at + TimeDelta::seconds(100);
    let mut change = change(&step(what), at);
    change.by = Actor {
        role,
        name: name.map(str::to_owned),
    };
    let stock = tables.stock.clone();
    let books = Books {
        known: &tables.known,
        replayed: &HashMap::new(),
        standings: tables.standings.clone(),
        unmatched: HashSet::new(),
        counts: Counts::new(),
        stock: &stock,
        at,
        grace: Some(TimeDelta::seconds(GRACE_SECONDS)),
    };
    let Decision {
        mut verdicts,
        moved,
        ..
    } = decide(&[Candidate::Change(&change)], books);
    let verdict = verdicts.pop().expect("a verdict");
    assert!(moved.is_empty() || matches!(verdict, Verdict::Changed(..)));
    verdict
}

#[test]
fn a_role_that_may_not_changes_nothing_whatever_a_door_let_in() {
    let confirm = What::Confirm {
        reference: 1,
        amount: Amount::Unsaid,
    };
    let cancel = What::Cancel {
        is_customer: false,
        restock: true,
    };
    let extend = What::Extend { seconds: 120 };
    let (shop, staff) = (
        &[Role::Shop, Role::Admin][..],
        &[Role::Support, Role::Shop, Role::Admin][..],
    );
    for (what, allowed) in [
        (confirm, shop),
        (cancel, staff),
        (extend, staff),
        (What::Expire, &[Role::System][..]),
    ] {
        let all = [
            Role::Customer,
            Role::Support,
            Role::Shop,
            Role::Admin,
            Role::System,
        ];
        for role in all {
            let verdict = asked(what, role, Some("somebody"));
            let is_changed = matches!(verdict, Verdict::Changed(..));
            assert_eq!(is_changed, allowed.contains(&role), "{what:?} by {role:?}");
            if !is_changed {
                assert!(matches!(verdict, Verdict::Conflict), "{what:?} by {role:?}");
            }
        }
    }
}

#[test]
fn a_customer_gives_up_its_own_order_alone() {
    let cancel = What::Cancel {
        is_customer: true,
        restock: true,
    };
    let is_cancelled =
        |name: Option<&str>| matches!(asked(cancel, Role::Customer, name), Verdict::Changed(..));
    assert!(is_cancelled(Some("c")));
    assert!(!is_cancelled(Some("c-2")));
    assert!(!is_cancelled(None));
}

#[test]
fn a_cart_that_is_paid_late_needs_room_under_the_limit_of_each_of_its_products() {
    let cart = ORDERS
        .iter()
        .position(|items| items.len() > 1)
        .expect("a cart");
    let mut tables = Tables::of([100, 100], Some(100));
    let at = |seconds| DateTime::from_timestamp(START_MS / 1_000 + seconds, 0).expect("a time");
    let step = |what| Step {
        order: cart,
        what,
        seconds: 0,
        is_last: false,
    };
    let pay = |reference| What::Confirm {
        reference,
        amount: Amount::Unsaid,
    };
    let came = tables.settle(&[step(What::Place)], at(0));
    assert_eq!(came, [Came::To(Status::Reserved, 1)]);
    let came = tables.settle(&[step(What::Expire)], at(1_000));
    assert_eq!(came, [Came::To(Status::Expired, 2)]);
    // Of one of the products only, the customer has as much as one may have by now.
    let (last, _) = ORDERS[cart][ORDERS[cart].len() - 1];
    let has = |pieces| HashMap::from([(sku(last), HashMap::from([("c".to_owned(), pieces)]))]);
    tables.counts = has(100);
    assert_eq!(tables.settle(&[step(pay(1))], at(1_001)), [Came::Unmatched]);
    tables.counts = has(0);
    let came = tables.settle(&[step(pay(1)), step(pay(2))], at(1_002));
    assert_eq!(came, [Came::Unmatched, Came::To(Status::Confirmed, 3)]);
}

#[test]
fn a_limit_that_is_lowered_refuses_what_is_new_and_touches_nothing_old() {
    let mut tables = Tables::of([100, 100], Some(100));
    let at = |seconds| DateTime::from_timestamp(START_MS / 1_000 + seconds, 0).expect("a time");
    let step = |order, what| Step {
        order,
        what,
        seconds: 0,
        is_last: false,
    };
    let held = ORDERS
        .iter()
        .position(|items| items[0].0 == 0)
        .expect("an order that is held");
    let came = tables.settle(&[step(held, What::Place)], at(0));
    assert_eq!(came, [Came::To(Status::Reserved, 1)]);
    for row in tables.stock.values_mut() {
        let since = DateTime::UNIX_EPOCH;
        row.rules.limit = Some(CustomerLimit { pieces: 1, since });
    }
    let counts = HashMap::from([(sku(0), HashMap::from([("c".to_owned(), 50)]))]);
    tables.counts = counts;
    let other =
        (0..ORDERS.len()).find(|it| *it != held && ORDERS[*it].iter().any(|item| item.0 == 0));
    let other = other.expect("another order of it");
    let pay = What::Confirm {
        reference: 1,
        amount: Amount::Right,
    };
    let came = tables.settle(&[step(other, What::Place), step(held, pay)], at(1));
    assert_eq!(
        came,
        [
            Came::To(Status::Rejected, 1),
            Came::To(Status::Confirmed, 2)
        ]
    );
}

#[test]
fn a_payment_that_was_unmatched_once_never_confirms_although_the_goods_come_back() {
    let mut tables = Tables::of([2, 0], None);
    let at = |seconds| DateTime::from_timestamp(START_MS / 1_000 + seconds, 0).expect("a time");
    let step = |order, what| Step {
        order,
        what,
        seconds: 0,
        is_last: false,
    };
    let pay = |reference| What::Confirm {
        reference,
        amount: Amount::Right,
    };
    tables.settle(&[step(0, What::Place)], at(0));
    // The hold of order 0 is over, and order 1 buys one of the two.
    let came = tables.settle(
        &[
            step(0, What::Expire),
            step(1, What::Place),
            step(0, pay(7)),
            step(0, pay(7)),
        ],
        at(100),
    );
    assert_eq!(came[2..], [Came::Unmatched, Came::Unmatched]);
    let cancel = What::Cancel {
        is_customer: true,
        restock: true,
    };
    let came = tables.settle(
        &[step(1, cancel), step(0, pay(7)), step(0, pay(8))],
        at(101),
    );
    assert_eq!(came[1], Came::Unmatched, "for good");
    assert_eq!(
        came[2],
        Came::To(Status::Confirmed, 3),
        "another payment does"
    );
}
