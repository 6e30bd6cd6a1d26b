//! The stock of a SKU at a moment, and whether it is for sale.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    news::StockNews,
    sale::{Refusal, Window},
};

/// The stock of one SKU at one version of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stock {
    /// Counts the writes of the row.
    pub(crate) version: i64,
    /// What is free to sell.
    pub(crate) available: i64,
    /// What is held for orders that are not paid yet.
    pub(crate) held: i64,
}

impl Stock {
    /// Returns whether the SKU is for sale, as far as its stock says.
    #[must_use]
    pub(crate) fn state(self) -> State {
        match self {
            Self { available: 1.., .. } => State::Open,
            Self { held: 1.., .. } => State::AllHeld,
            _ => State::SoldOut,
        }
    }
}

impl From<&StockNews> for Stock {
    fn from(news: &StockNews) -> Self {
        Self {
            version: news.version,
            available: news.available,
            held: news.held,
        }
    }
}

/// Whether a SKU is for sale: the member `state` of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Whoever comes first gets it.
    Open,
    /// Nothing is left.
    SoldOut,
    /// Nothing is left to sell, but held goods may come back.
    AllHeld,
    /// The sale has not begun.
    NotOpen,
    /// The sale is over.
    Closed,
    /// It is not sold for the moment.
    Paused,
}

/// What the state of every product depends on, beside its stock and its rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The database's time.
    pub(crate) now: DateTime<Utc>,
    /// Whether all purchases are stopped.
    pub(crate) is_stopped: bool,
}

impl State {
    /// The word in JSON.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SoldOut => "sold_out",
            Self::AllHeld => "all_held",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::Paused => "paused",
        }
    }

    /// The state of a product that has this stock.
    #[must_use]
    pub(crate) fn of(stock: Stock, window: Window, is_paused: bool, moment: Moment) -> Self {
        if moment.is_stopped {
            return Self::Paused;
        }
        match window.refusal(moment.now) {
            Some(Refusal::Closed) => Self::Closed,
            Some(_) => Self::NotOpen,
            None if is_paused => Self::Paused,
            None => stock.state(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_states_the_one_that_no_waiting_mends_is_shown() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let window = Window {
            opens_at: Some(at(1_000)),
            closes_at: Some(at(2_000)),
        };
        let gone = Stock {
            version: 1,
            available: 0,
            held: 0,
        };
        let stated = |is_paused, is_stopped, ms| {
            let now = at(ms);
            State::of(gone, window, is_paused, Moment { now, is_stopped }).as_str()
        };
        let state = |is_paused, ms| stated(is_paused, false, ms);
        assert_eq!(state(true, 999), "not_open");
        assert_eq!(state(true, 1_000), "paused");
        assert_eq!(state(false, 1_000), "sold_out");
        assert_eq!(state(false, 1_999), "sold_out");
        assert_eq!(state(true, 2_000), "closed");
        assert_eq!(stated(false, true, 1_000), "paused");
    }

    #[test]
    fn held_goods_make_the_difference_only_where_nothing_is_free() {
        let state = |available, held| {
            let stock = Stock {
                version: 1,
                available,
                held,
            };
            stock.state().as_str()
        };
        assert_eq!(state(1, 0), "open");
        assert_eq!(state(1, 5), "open");
        assert_eq!(state(0, 0), "sold_out");
        assert_eq!(state(0, 1), "all_held");
    }
}
