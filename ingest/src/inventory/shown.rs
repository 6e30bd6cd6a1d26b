//! A product as it is shown, and as the audit log keeps it.

use chrono::{DateTime, Utc};
use hotrow_shared::outcome::timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::rules::Sale;
use crate::board::{stock::State, store::Row};

/// What everybody sees of a product.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    product: Product<'a>,
    /// Whether nothing is free to sell.
    sold_out: bool,
    /// Whether it is for sale: `open`, `sold_out`, `all_held`, `not_open`, `closed` or `paused`. Words may be added.
    state: &'static str,
    /// Grows with each change of the stock, here and on streams.
    #[schema(minimum = 0)]
    version: i64,
    /// When this was true.
    #[serde(serialize_with = "timestamp")]
    as_of: DateTime<Utc>,
}

/// A product without what follows from it and from the time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProductCore)]
pub(super) struct Product<'a> {
    /// The code of the product.
    sku: &'a str,
    /// Its name for people.
    title: &'a str,
    /// The price of one, in the currency's smallest unit.
    #[schema(minimum = 0)]
    unit_price_minor: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: &'a str,
    /// How many are free to sell.
    #[schema(minimum = 0)]
    available: i64,
    /// How many are held for orders that are not paid yet.
    #[schema(minimum = 0)]
    held: i64,
    /// The rules of its sale, if it has any.
    #[schema(required)]
    sale: Option<Sale>,
}

impl<'a> Product<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        Self {
            sku: &row.sku,
            title: &row.title,
            unit_price_minor: row.unit_price_minor,
            currency: &row.currency,
            available: row.available,
            held: row.held,
            sale: Sale::shown(row),
        }
    }
}

impl<'a> Shown<'a> {
    /// A product that is in this state.
    pub(super) fn of(row: &'a Row, state: State) -> Self {
        Self {
            product: Product::of(row),
            sold_out: row.available == 0,
            state: state.as_str(),
            version: row.stock().version,
            as_of: row.as_of,
        }
    }
}
