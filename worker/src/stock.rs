//! The stock of a SKU, as its locked row says: what a decision rests on, and documents and news show.

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
    /// Counts the writes of the row.
    pub(crate) version: i64,
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
