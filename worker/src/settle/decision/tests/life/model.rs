//! The slow model: what each step comes to, from the list of all orders alone.

use std::collections::BTreeMap;

use hotrow_shared::outcome::Status;

use super::steps::{Amount, Came, GRACE_SECONDS, HOLD, ORDERS, Step, What};

/// An order of the model.
#[derive(Debug, Clone)]
struct Modelled {
    status: Status,
    revision: i32,
    paid_by: Option<u8>,
    settled: i64,
    expires: i64,
    has_goods: bool,
}

/// All orders of the model.
#[derive(Debug, Default)]
pub(super) struct Model {
    orders: BTreeMap<usize, Modelled>,
    unmatched: Vec<(usize, u8)>,
    /// Pieces of each SKU that the one customer may have.
    pieces: Option<i32>,
}

impl Model {
    pub(super) fn limited_to(pieces: Option<i32>) -> Self {
        Self {
            pieces,
            ..Self::default()
        }
    }

    pub(super) fn gone(&self, sku: u8) -> i64 {
        self.units(sku, |order| order.has_goods)
    }

    pub(super) fn held(&self, sku: u8) -> i64 {
        self.units(sku, |order| order.status == Status::Reserved)
    }

    /// What the customer has or holds.
    pub(super) fn owned(&self, sku: u8) -> i64 {
        self.units(sku, |order| {
            matches!(order.status, Status::Reserved | Status::Confirmed)
        })
    }

    fn units(&self, sku: u8, counts: impl Fn(&Modelled) -> bool) -> i64 {
        let counted = self.orders.iter().filter(|(_, order)| counts(order));
        let items = counted.flat_map(|(number, _)| ORDERS[*number]);
        items
            .filter(|item| item.0 == sku)
            .map(|item| i64::from(item.1))
            .sum()
    }

    fn fits(&self, number: usize, available: [i64; 2]) -> bool {
        ORDERS[number].iter().all(|&(sku, quantity)| {
            let quantity = i64::from(quantity);
            let is_allowed = |pieces| self.owned(sku) + quantity <= i64::from(pieces);
            self.gone(sku) + quantity <= available[usize::from(sku)]
                && self.pieces.is_none_or(is_allowed)
        })
    }

    /// `now` is in seconds.
    pub(super) fn step(&mut self, step: &Step, now: i64, available: [i64; 2]) -> Came {
        let number = step.order;
        let fits = self.fits(number, available);
        let Some(order) = self.orders.get(&number).cloned() else {
            return self.first(step, now, fits);
        };
        let mut next = order.clone();
        next.revision += 1;
        match step.what {
            What::Place => return Came::Nothing,
            What::Confirm { reference, amount } => {
                let name = (number, reference);
                if self.unmatched.contains(&name) {
                    return Came::Unmatched;
                }
                if order.paid_by == Some(reference) {
                    return Came::Nothing;
                }
                let may_pay = match order.status {
                    Status::Reserved => true,
                    Status::Confirmed => order.paid_by.is_none(),
                    Status::Expired => fits,
                    _ => false,
                };
                if !may_pay || matches!(amount, Amount::Wrong) {
                    self.unmatched.push(name);
                    return Came::Unmatched;
                }
                next.status = Status::Confirmed;
                next.paid_by = Some(reference);
                next.has_goods = true;
            }
            What::Cancel {
                is_customer,
                restock,
            } => match order.status {
                Status::Cancelled => return Came::Nothing,
                Status::Reserved => {
                    next.status = Status::Cancelled;
                    next.has_goods = false;
                }
                Status::Confirmed if !is_customer => {
                    next.status = Status::Cancelled;
                    next.has_goods = !restock;
                }
                _ => return Came::Conflict,
            },
            What::Extend { seconds } => {
                if order.status != Status::Reserved {
                    return Came::Conflict;
                }
                let max = order.settled + i64::from(HOLD.seconds_max);
                next.expires = (now + i64::from(seconds)).min(max);
                if next.expires <= order.expires {
                    return Came::Nothing;
                }
            }
            What::Expire => {
                if order.status != Status::Reserved || now < order.expires + GRACE_SECONDS {
                    return Came::Nothing;
                }
                next.status = Status::Expired;
                next.has_goods = false;
            }
        }
        let came = Came::To(next.status, next.revision);
        self.orders.insert(number, next);
        came
    }

    /// What comes of a step when nothing is known of the order.
    fn first(&mut self, step: &Step, now: i64, fits: bool) -> Came {
        let number = step.order;
        match step.what {
            What::Place => {
                let is_held = ORDERS[number].iter().any(|item| item.0 == 0);
                let status = match (fits, is_held) {
                    (false, _) => Status::Rejected,
                    (true, true) => Status::Reserved,
                    (true, false) => Status::Confirmed,
                };
                let order = Modelled {
                    status,
                    revision: 1,
                    paid_by: None,
                    settled: now,
                    expires: now + i64::from(HOLD.seconds),
                    has_goods: fits,
                };
                self.orders.insert(number, order);
                Came::To(status, 1)
            }
            What::Confirm { reference, .. } => {
                self.unmatched.push((number, reference));
                Came::Unmatched
            }
            _ => Came::Conflict,
        }
    }
}
