//! A product as it is shown, and as the audit log keeps it.

use chrono::{DateTime, Utc};
use hotrow_shared::outcome::timestamp;
use serde::Serialize;

use super::rules::Sale;
use crate::board::{stock::State, store::Row};

/// What everybody sees of a product.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    product: Product<'a>,
    sold_out: bool,
    state: &'static str,
    #[serde(serialize_with = "timestamp")]
    as_of: DateTime<Utc>,
}

/// A product without what follows from it and from the time.
#[derive(Debug, Serialize)]
pub(super) struct Product<'a> {
    sku: &'a str,
    title: &'a str,
    unit_price_minor: i64,
    currency: &'a str,
    available: i64,
    held: i64,
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
            as_of: row.as_of,
        }
    }
}
