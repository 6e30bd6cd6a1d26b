//! The stock of a SKU and the rules of its sale, as its locked row says: what a decision rests on, and documents and
//! news show.

use chrono::{DateTime, Utc};
use hotrow_shared::sale::Window;

/// The locked inventory row of one SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stock {
    /// What is free to sell.
    pub(crate) available: i64,
    /// What is held for orders that are not paid yet.
    pub(crate) held: i64,
    /// The price of one, in the currency's smallest unit.
    pub(crate) unit_price_minor: i64,
    /// ISO 4217.
    pub(crate) currency: String,
    /// How long an order of it is held; none confirms at once.
    pub(crate) hold: Option<Hold>,
    /// Who may buy it, when, and how much.
    pub(crate) rules: Rules,
    /// Counts the writes of the row.
    pub(crate) version: i64,
}

/// The rules of a sale; without any, everybody may buy everything at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// When orders have to be accepted.
    pub(crate) window: Window,
    /// Pieces that one order may have.
    pub(crate) max_per_order: Option<i32>,
    /// Pieces that one customer may have.
    pub(crate) limit: Option<CustomerLimit>,
}

/// How much one customer may hold and have bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CustomerLimit {
    /// Pieces.
    pub(crate) pieces: i32,
    /// Orders that took their goods earlier do not count.
    pub(crate) since: DateTime<Utc>,
}

/// How long goods are held, in seconds from settling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Unless it is extended.
    pub(crate) seconds: i32,
    /// With all extensions.
    pub(crate) seconds_max: i32,
}

impl Hold {
    /// The hold of a cart: in each way the shorter one.
    pub(crate) fn shorter(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.min(other.seconds),
            seconds_max: self.seconds_max.min(other.seconds_max),
        }
    }
}

/// What a settlement does to the stock of one SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Pieces that orders took.
    pub(crate) taken: i64,
    /// Pieces that orders gave back.
    pub(crate) released: i64,
    /// By how much more, or less, is held afterwards.
    pub(crate) held: i64,
    /// Orders that took some.
    pub(crate) orders: i32,
}
