//! One SKU of the board: what the door reads of it, and why it refuses an item.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    order::Item,
    sale::{Refusal, Rules, Window},
};

use super::{
    known::{Asked, Known},
    stock::{State, Stock},
    store::Row,
};
use crate::http::not_sold::Why;

/// A SKU: what the door reads of it, beside what it comes from.
pub(super) struct Entry {
    /// The [`State`] of its stock.
    state: AtomicU8,
    /// Whether its rules refuse anybody.
    has_rules: AtomicBool,
    /// Whether somebody wanted to buy it since anything was taken in.
    is_wanted: AtomicBool,
    /// Whether somebody watched it since then.
    is_watched: AtomicBool,
    /// Boxed, so that the table is small to walk through and to grow.
    known: Mutex<Box<Known>>,
}

impl Entry {
    pub(super) fn new(known: Known) -> Self {
        Self {
            state: AtomicU8::new(known.stock().state() as u8),
            has_rules: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            known: Mutex::new(Box::new(known)),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Box<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a word of the SKU.
    pub(super) fn learn(&self, word: Word) {
        let mut known = self.known();
        let is_believed = match word {
            Word::News(stock, now) => known.hear(stock, now),
            Word::Answer(row, asked, now) => {
                known.answer(row, asked, now);
                true
            }
            Word::Unchanged(asked, now) => {
                known.unchanged(asked, now);
                true
            }
            Word::Rules(rules, now) => {
                known.hear_rules(rules, now);
                false
            }
        };
        // Behind the lock, so that the state is that of the last word.
        let state = known.stock().state() as u8;
        self.state.store(state, Ordering::Relaxed);
        let has_rules = known.rules().is_some_and(refuse_anybody);
        self.has_rules.store(has_rules, Ordering::Relaxed);
        if is_believed {
            self.is_wanted.store(false, Ordering::Relaxed);
            self.is_watched.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn state(&self) -> State {
        let state = self.state.load(Ordering::Relaxed);
        let all = [State::Open, State::SoldOut, State::AllHeld];
        let known = all.into_iter().find(|it| *it as u8 == state);
        known.unwrap_or(State::Open)
    }

    /// Why this item is not sold, if so. `currency` is that of the items before it.
    pub(super) fn refusal(
        &self,
        item: &Item,
        currency: &mut Option<String>,
        is_cart: bool,
        now: DateTime<Utc>,
    ) -> Option<Why> {
        let asks_more = is_cart || item.unit_price_minor.is_some();
        if asks_more || self.has_rules.load(Ordering::Relaxed) {
            let known = self.known();
            // Without rules the worker decides.
            let refused = known
                .rules()
                .and_then(|rules| refused_by(rules, item, currency, is_cart, now));
            if refused.is_some() {
                return refused;
            }
        }
        match self.state() {
            State::SoldOut => Some(Why::SoldOut { is_held: false }),
            State::AllHeld => Some(Why::SoldOut { is_held: true }),
            _ => None,
        }
    }

    /// Whether somebody wanted to buy it since anything was taken in.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn want(&self) {
        // Reading first leaves the line shared between the cores that sell a hot SKU.
        if !self.is_wanted() {
            self.is_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody watched it since anything was taken in.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    pub(super) fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }
}

/// Whether there is anything in these rules that refuses a buyer who names no price.
fn refuse_anybody(rules: &Rules) -> bool {
    rules.is_paused
        || rules.window != Window::default()
        || rules.max_per_order.is_some()
        || rules.max_per_customer.is_some()
}

/// Why these rules refuse an item, if so.
fn refused_by(
    rules: &Rules,
    item: &Item,
    currency: &mut Option<String>,
    is_cart: bool,
    now: DateTime<Utc>,
) -> Option<Why> {
    // A single item agrees with itself.
    if is_cart && *currency.get_or_insert_with(|| rules.currency.clone()) != rules.currency {
        return Some(Why::CurrencyMismatch);
    }
    let unit_price_minor = rules.unit_price_minor;
    let seen = item.unit_price_minor.map(i64::from);
    if seen.is_some_and(|seen| seen != unit_price_minor) {
        return Some(Why::PriceChanged { unit_price_minor });
    }
    match (rules.window.refusal(now), rules.window.opens_at) {
        (Some(Refusal::NotOpen), Some(opens_at)) => {
            let wait = (opens_at - now).to_std().unwrap_or_default();
            return Some(Why::NotOpen { opens_at, wait });
        }
        (Some(_), _) => return Some(Why::Closed),
        (None, _) => {}
    }
    if rules.is_paused {
        return Some(Why::Paused);
    }
    // What the customer has already only the worker knows.
    let limits = [rules.max_per_order, rules.max_per_customer];
    let limit = limits.into_iter().flatten().min()?;
    (i64::from(item.quantity) > i64::from(limit)).then_some(Why::LimitReached { limit })
}

/// A word of a SKU: what it says, when it was asked for, and when it came.
pub(super) enum Word {
    News(Stock, Instant),
    Answer(Row, Asked, Instant),
    /// The row is as it was read last.
    Unchanged(Instant, Instant),
    /// What an administrator said.
    Rules(Rules, Instant),
}
