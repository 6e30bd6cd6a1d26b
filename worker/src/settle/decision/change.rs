//! Changes of settled orders: paid, cancelled, extended, expired.

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    change::{Ask, Cancellation, Change, Extension, Payment, Role},
    outcome::{Reason, Status},
};

use super::{
    books::{Books, Shelf},
    verdict::{GoodsMoved, Verdict, Why},
};
use crate::standing::{Goods, Standing};

/// Decides what is asked of an order, and notes how it stands from then on.
pub(super) fn decide(change: &Change, books: &mut Books<'_, '_>, shelf: &mut Shelf<'_>) -> Verdict {
    let id = change.order_id;
    // The door judged this, too, by what it knew then.
    if !is_allowed(change, books.standings.get(&id)) {
        return Verdict::Conflict;
    }
    if let Ask::Confirm(payment) = &change.ask {
        let name = (id, payment.reference.clone());
        if books.unmatched.contains(&name) {
            return Verdict::UnmatchedBefore;
        }
    }
    let verdict = match books.standings.get(&id) {
        Some(standing) => ask(change, standing, books.grace, books.at, shelf),
        None if matches!(change.ask, Ask::Confirm(_)) => Verdict::Unmatched(Why::UnknownOrder),
        None => Verdict::Conflict,
    };
    match (&verdict, &change.ask) {
        (Verdict::Changed(standing, _), _) => {
            books.standings.insert(id, (**standing).clone());
        }
        (Verdict::Unmatched(_), Ask::Confirm(payment)) => {
            books.unmatched.insert((id, payment.reference.clone()));
        }
        _ => {}
    }
    verdict
}

/// Whether whoever asks may ask this of the order at all. A customer may only give up its own.
fn is_allowed(change: &Change, standing: Option<&Standing>) -> bool {
    let by = &change.by;
    match (&change.ask, by.role) {
        (Ask::Expire(_), role) => role == Role::System,
        (Ask::Cancel(_), Role::Customer) => {
            standing.is_some_and(|order| by.name.as_ref() == Some(&order.customer_id))
        }
        (Ask::Cancel(_) | Ask::Extend(_), Role::Support) => true,
        (_, role) => matches!(role, Role::Shop | Role::Admin),
    }
}

fn ask(
    change: &Change,
    standing: &Standing,
    grace: Option<TimeDelta>,
    at: DateTime<Utc>,
    shelf: &mut Shelf<'_>,
) -> Verdict {
    match &change.ask {
        Ask::Confirm(payment) => confirm(payment, standing, at, shelf),
        Ask::Cancel(cancellation) => cancel(cancellation, change.by.role, standing, at, shelf),
        Ask::Extend(extension) => extend(*extension, change.accepted_ms, standing, at),
        Ask::Expire(_) => expire(standing, grace, at, shelf),
    }
}

fn confirm(
    payment: &Payment,
    standing: &Standing,
    at: DateTime<Utc>,
    shelf: &mut Shelf<'_>,
) -> Verdict {
    let is_same = standing.payment_reference.as_ref() == Some(&payment.reference);
    match standing.status {
        // It has paid the order, whatever became of that since.
        Status::Confirmed | Status::Cancelled if is_same => return Verdict::Unchanged,
        Status::Confirmed if standing.payment_reference.is_some() => {
            return Verdict::Unmatched(Why::PaidByAnother);
        }
        Status::Cancelled => return Verdict::Unmatched(Why::Cancelled),
        Status::Rejected => return Verdict::Unmatched(Why::Rejected),
        Status::Failed => return Verdict::Unmatched(Why::Failed),
        Status::Confirmed | Status::Reserved | Status::Expired => {}
    }
    let is_total = payment
        .amount_minor
        .is_none_or(|amount| Some(amount) == standing.total_minor);
    let is_currency = payment.currency.is_none() || payment.currency == standing.currency;
    if !is_total || !is_currency {
        return Verdict::Unmatched(Why::WrongAmount);
    }
    let moved = match standing.status {
        Status::Expired if !is_there(&standing.goods, shelf) => {
            return Verdict::Unmatched(Why::Expired);
        }
        Status::Expired if !is_within_limits(standing, shelf) => {
            return Verdict::Unmatched(Why::LimitReached);
        }
        Status::Expired => {
            take(standing, at, shelf);
            Some(GoodsMoved::Taken)
        }
        Status::Reserved => {
            end_hold(&standing.goods, shelf);
            None
        }
        _ => None,
    };
    let mut standing = standing.clone();
    standing.become_now(Status::Confirmed, None, at);
    if moved.is_some() {
        standing.taken_at = at;
    }
    standing.payment_reference = Some(payment.reference.clone());
    Verdict::Changed(Box::new(standing), moved)
}

fn cancel(
    cancellation: &Cancellation,
    role: Role,
    standing: &Standing,
    at: DateTime<Utc>,
    shelf: &mut Shelf<'_>,
) -> Verdict {
    let is_back = match standing.status {
        Status::Cancelled => return Verdict::Unchanged,
        Status::Reserved => {
            end_hold(&standing.goods, shelf);
            true
        }
        // A customer may give back only what is not paid.
        Status::Confirmed if role != Role::Customer => cancellation.restock,
        Status::Confirmed | Status::Expired | Status::Rejected | Status::Failed => {
            return Verdict::Conflict;
        }
    };
    if is_back {
        release(&standing.goods, shelf);
    }
    uncount(standing, shelf);
    let reason = cancellation.reason.clone().unwrap_or_else(|| {
        let by = if role == Role::Customer {
            Reason::ByCustomer
        } else {
            Reason::ByShop
        };
        by.as_str().to_owned()
    });
    let mut standing = standing.clone();
    standing.become_now(Status::Cancelled, Some(reason), at);
    standing.restocked = Some(is_back);
    Verdict::Changed(Box::new(standing), is_back.then_some(GoodsMoved::Released))
}

fn extend(
    extension: Extension,
    accepted_ms: i64,
    standing: &Standing,
    at: DateTime<Utc>,
) -> Verdict {
    let (Status::Reserved, Some(expires_at)) = (standing.status, standing.expires_at) else {
        return Verdict::Conflict;
    };
    let accepted_at = DateTime::from_timestamp_millis(accepted_ms).unwrap_or_default();
    let asked = accepted_at + TimeDelta::seconds(extension.seconds.into());
    let allowed = standing.extend_max_at.map_or(asked, |max| asked.min(max));
    if allowed <= expires_at {
        return Verdict::Unchanged;
    }
    let mut standing = standing.clone();
    standing.become_now(Status::Reserved, None, at);
    standing.expires_at = Some(allowed);
    Verdict::Changed(Box::new(standing), None)
}

fn expire(
    standing: &Standing,
    grace: Option<TimeDelta>,
    at: DateTime<Utc>,
    shelf: &mut Shelf<'_>,
) -> Verdict {
    if grace.is_none_or(|grace| !standing.is_overdue(grace, at)) {
        return Verdict::Unchanged;
    }
    end_hold(&standing.goods, shelf);
    release(&standing.goods, shelf);
    uncount(standing, shelf);
    let mut standing = standing.clone();
    let reason = Reason::NotPaid.as_str().to_owned();
    standing.become_now(Status::Expired, Some(reason), at);
    Verdict::Changed(Box::new(standing), Some(GoodsMoved::Released))
}

fn is_there(goods: &[Goods], shelf: &Shelf<'_>) -> bool {
    let is_there = |goods: &Goods| {
        let line = shelf.line(&goods.sku);
        line.is_some_and(|line| line.available() >= goods.quantity)
    };
    goods.iter().all(is_there)
}

/// Whether the customer may have the goods again.
fn is_within_limits(standing: &Standing, shelf: &Shelf<'_>) -> bool {
    let is_allowed = |goods: &Goods| {
        let line = shelf.line(&goods.sku);
        line.is_some_and(|line| line.allows(&standing.customer_id, goods.quantity))
    };
    standing.goods.iter().all(is_allowed)
}

fn take(standing: &Standing, at: DateTime<Utc>, shelf: &mut Shelf<'_>) {
    for Goods { sku, quantity } in &standing.goods {
        shelf.change(sku, |moved| {
            moved.taken += quantity;
            moved.orders += 1;
        });
        shelf.count(sku, &standing.customer_id, at, *quantity);
    }
}

/// The customer has the goods no more, whether they are back in the stock or not.
fn uncount(standing: &Standing, shelf: &mut Shelf<'_>) {
    for Goods { sku, quantity } in &standing.goods {
        shelf.count(sku, &standing.customer_id, standing.taken_at, -quantity);
    }
}

fn release(goods: &[Goods], shelf: &mut Shelf<'_>) {
    for Goods { sku, quantity } in goods {
        shelf.change(sku, |moved| moved.released += quantity);
    }
}

fn end_hold(goods: &[Goods], shelf: &mut Shelf<'_>) {
    for Goods { sku, quantity } in goods {
        shelf.change(sku, |moved| moved.held -= quantity);
    }
}
