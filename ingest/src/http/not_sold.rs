//! Why an item is not sold, as a refusal at the door says it.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::sale::Refusal;

use super::code::Code;

/// How long a client should wait for goods that are held: some buyers pay at once, and some never.
const HELD_RETRY_AFTER: Duration = Duration::from_secs(5);

/// An item that is not sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotSold {
    pub(crate) sku: String,
    pub(crate) why: Why,
}

/// Why an item is not sold, with what its buyer may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is no such product.
    UnknownSku,
    /// Its currency is not that of the items before it.
    CurrencyMismatch,
    /// It costs this, and not what the buyer saw.
    PriceChanged { unit_price_minor: i64 },
    /// The sale is over.
    Closed,
    /// The sale begins then.
    NotOpen {
        opens_at: DateTime<Utc>,
        /// How long that is.
        wait: Duration,
    },
    /// The sale stands still.
    Paused,
    /// It is more than this.
    LimitReached { limit: i32 },
    /// Nothing is left; some may come back if it is held.
    SoldOut { is_held: bool },
}

impl Why {
    /// Which of the refusals of the contract it is.
    #[must_use]
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::UnknownSku => Refusal::UnknownSku,
            Self::CurrencyMismatch => Refusal::CurrencyMismatch,
            Self::PriceChanged { .. } => Refusal::PriceChanged,
            Self::Closed => Refusal::Closed,
            Self::NotOpen { .. } => Refusal::NotOpen,
            Self::Paused => Refusal::Paused,
            Self::LimitReached { .. } => Refusal::LimitReached,
            Self::SoldOut { .. } => Refusal::SoldOut,
        }
    }

    /// The place among several, of which the first counts: what waiting does not mend comes first.
    #[must_use]
    pub(crate) fn rank(&self) -> (Refusal, bool) {
        (self.refusal(), *self == Self::SoldOut { is_held: true })
    }

    /// Whether an order of before may be asked for again all the same. Before the sale there was none.
    #[must_use]
    pub(crate) fn lets_repeats_pass(&self) -> bool {
        !matches!(self, Self::NotOpen { .. })
    }

    /// How long a client should wait before it tries again, if that can be of use.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotOpen { wait, .. } => Some(*wait),
            Self::SoldOut { is_held: true } => Some(HELD_RETRY_AFTER),
            _ => None,
        }
    }

    /// Which refusal at the door it is.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self.refusal() {
            Refusal::UnknownSku => Code::UnknownSku,
            Refusal::CurrencyMismatch => Code::CurrencyMismatch,
            Refusal::PriceChanged => Code::PriceChanged,
            Refusal::Closed => Code::Closed,
            Refusal::NotOpen => Code::NotOpen,
            Refusal::Paused => Code::Paused,
            Refusal::LimitReached => Code::LimitReached,
            Refusal::SoldOut => Code::SoldOut,
        }
    }
}

impl fmt::Display for NotSold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sku = &self.sku;
        match &self.why {
            Why::UnknownSku => write!(f, "there is no product {sku}"),
            Why::CurrencyMismatch => write!(
                f,
                "{sku} is priced in another currency than the items before it: order it by itself"
            ),
            Why::PriceChanged { unit_price_minor } => {
                write!(
                    f,
                    "{sku} costs {unit_price_minor} now: show the buyer the new price"
                )
            }
            Why::Closed => write!(f, "the sale of {sku} is over"),
            Why::NotOpen { .. } => write!(f, "the sale of {sku} has not begun"),
            Why::Paused => write!(f, "the sale of {sku} is paused: try again later"),
            Why::LimitReached { limit } => write!(f, "no more than {limit} of {sku} can be bought"),
            Why::SoldOut { is_held: false } => write!(f, "{sku} is sold out"),
            Why::SoldOut { is_held: true } => write!(
                f,
                "{sku} is sold out, and some of it is held for orders that may not be paid"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_at_the_door_has_the_word_that_a_rejected_order_would_have() {
        let at = DateTime::UNIX_EPOCH;
        for why in [
            Why::UnknownSku,
            Why::CurrencyMismatch,
            Why::PriceChanged {
                unit_price_minor: 1,
            },
            Why::Closed,
            Why::NotOpen {
                opens_at: at,
                wait: HELD_RETRY_AFTER,
            },
            Why::Paused,
            Why::LimitReached { limit: 1 },
            Why::SoldOut { is_held: false },
        ] {
            assert_eq!(why.code().as_str(), why.refusal().as_str());
        }
    }
}
