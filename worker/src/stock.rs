//! The stock of a SKU, as its locked row says: what a decision rests on, and documents and news show.

/// The locked inventory row of one SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stock {
    /// What is left.
    pub(crate) available: i64,
    /// The price of one, in the currency's smallest unit.
    pub(crate) unit_price_minor: i64,
    /// ISO 4217.
    pub(crate) currency: String,
    /// Counts the writes of the row.
    pub(crate) version: i64,
}

/// What was sold of one SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sold {
    /// Pieces.
    pub(crate) quantity: i64,
    /// Orders that they went to.
    pub(crate) orders: i32,
}
