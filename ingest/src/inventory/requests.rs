//! The bodies of changes as they are described. They are read by hand: see [`super::bodies`] and [`super::rules`].
#![expect(dead_code, reason = "they are described and never built")]

use chrono::{DateTime, Utc};
use utoipa::ToSchema;

/// A product.
#[derive(ToSchema)]
#[schema(as = ProductPut)]
pub(super) struct PutRequest {
    /// Its name for people, without control characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    title: String,
    /// The price of one, in the currency's smallest unit.
    #[schema(minimum = 0, maximum = 100_000_000_000i64)]
    unit_price_minor: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// How many are free to sell.
    #[schema(minimum = 0, maximum = 1_000_000_000_000i64)]
    available: i64,
    /// The rules of the sale.
    sale: Option<SaleRequest>,
}

/// What of a product is to change.
#[derive(ToSchema)]
#[schema(as = ProductPatch)]
pub(super) struct PatchRequest {
    /// Its name for people, without control characters.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    title: Option<String>,
    /// The price of one, in the currency's smallest unit.
    #[schema(nullable = false, minimum = 0, maximum = 100_000_000_000i64)]
    unit_price_minor: Option<i64>,
    /// The rules of the sale.
    sale: Option<SaleRequest>,
}

/// Rules of a sale. Those that are null are off.
#[derive(ToSchema)]
#[schema(as = SaleRulesChange)]
pub(super) struct SaleRequest {
    /// For how long orders are held until they are paid. Without it they are confirmed at once.
    #[schema(minimum = 30, maximum = 86_400)]
    hold_seconds: Option<i32>,
    /// The end of all extensions, counted from settling; only with `hold_seconds`, and not less.
    #[schema(minimum = 30, maximum = 604_800)]
    hold_seconds_max: Option<i32>,
    /// Pieces that one order may have.
    #[schema(minimum = 1, maximum = 1_000)]
    max_per_order: Option<i32>,
    /// Pieces that one customer may hold and have bought.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_per_customer: Option<i32>,
    /// The first moment of the sale.
    opens_at: Option<DateTime<Utc>>,
    /// The first moment after it; later than `opens_at`.
    closes_at: Option<DateTime<Utc>>,
    /// Whether it stands still.
    paused: Option<bool>,
}

/// By how much the stock changes.
#[derive(ToSchema)]
#[schema(as = Restock)]
pub(super) struct RestockRequest {
    /// Pieces that come, or that go where it is negative; never 0.
    #[schema(minimum = -1_000_000_000_000i64, maximum = 1_000_000_000_000i64)]
    quantity: i64,
}
