//! The rules of a sale: what keeps an item from being sold, and which of several reasons counts. The door and the
//! settlement ask the same questions.

use chrono::{DateTime, Utc, serde::ts_milliseconds_option};
use serde::{Deserialize, Serialize};

use crate::outcome::Reason;

/// The most pieces that an order, or a customer, can be limited to.
pub const LIMIT_MAX: i32 = 1_000_000;

/// Why an item is not sold. Of several the first in this sequence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The inventory has no such SKU.
    UnknownSku,
    /// The items of the cart are priced in different currencies.
    CurrencyMismatch,
    /// The buyer saw another price.
    PriceChanged,
    /// The sale is over.
    Closed,
    /// The sale has not begun.
    NotOpen,
    /// The sale stands still. Only the door says so: what was accepted is settled.
    Paused,
    /// It is more than one order, or one customer, may have.
    LimitReached,
    /// Too few are left.
    SoldOut,
}

impl Refusal {
    /// The code of a refusal at the door, and the reason of a rejected order.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.reason() {
            Some(reason) => reason.as_str(),
            None => "paused",
        }
    }

    /// The reason of a rejected order; none of what only the door refuses.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        Some(match self {
            Self::UnknownSku => Reason::UnknownSku,
            Self::CurrencyMismatch => Reason::CurrencyMismatch,
            Self::PriceChanged => Reason::PriceChanged,
            Self::Closed => Reason::Closed,
            Self::NotOpen => Reason::NotOpen,
            Self::Paused => return None,
            Self::LimitReached => Reason::LimitReached,
            Self::SoldOut => Reason::SoldOut,
        })
    }
}

/// When one SKU is sold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first moment of the sale.
    #[serde(with = "ts_milliseconds_option")]
    pub opens_at: Option<DateTime<Utc>>,
    /// The first moment after it.
    #[serde(with = "ts_milliseconds_option")]
    pub closes_at: Option<DateTime<Utc>>,
}

impl Window {
    /// Why nothing that is accepted then is sold, if so.
    #[must_use]
    pub fn refusal(self, accepted_at: DateTime<Utc>) -> Option<Refusal> {
        if self.closes_at.is_some_and(|closes| accepted_at >= closes) {
            Some(Refusal::Closed)
        } else if self.opens_at.is_some_and(|opens| accepted_at < opens) {
            Some(Refusal::NotOpen)
        } else {
            None
        }
    }
}

/// What an administrator said of a SKU, as the door needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Counts the changes by administrators. Of two the one with the higher edition is the later.
    pub edition: i64,
    /// The price of one, in the currency's smallest unit.
    pub unit_price_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Pieces that one order may have.
    pub max_per_order: Option<i32>,
    /// Pieces that one customer may hold and have bought.
    pub max_per_customer: Option<i32>,
    /// When it is sold.
    pub window: Window,
    /// Whether it is not sold for the moment.
    pub is_paused: bool,
}

/// The switch for all purchases, as the door needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Counts its changes. Of two the one with the higher version is the later.
    pub version: i64,
    /// Whether purchases are stopped.
    pub is_paused: bool,
    /// When purchases go on by themselves.
    #[serde(with = "ts_milliseconds_option")]
    pub until: Option<DateTime<Utc>>,
}

impl Switch {
    /// Whether purchases are stopped at a time.
    #[must_use]
    pub fn stops(&self, now: DateTime<Utc>) -> bool {
        self.is_paused && self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_from_its_first_moment_until_before_its_last() {
        let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let window = Window {
            opens_at: Some(at(1_000)),
            closes_at: Some(at(2_000)),
        };
        assert_eq!(window.refusal(at(999)), Some(Refusal::NotOpen));
        assert_eq!(window.refusal(at(1_000)), None);
        assert_eq!(window.refusal(at(1_999)), None);
        assert_eq!(window.refusal(at(2_000)), Some(Refusal::Closed));
        assert_eq!(Window::default().refusal(at(0)), None);
    }

    #[test]
    fn of_two_refusals_the_one_that_no_waiting_mends_counts() {
        assert!(Refusal::UnknownSku < Refusal::PriceChanged);
        assert!(Refusal::Closed < Refusal::NotOpen);
        assert!(Refusal::LimitReached < Refusal::SoldOut);
    }
}
