//! The outcome of an order, and the one place that writes it as the JSON that a client polls.
//!
//! The worker writes it into its news and the ingest process writes it from a database row: both
//! through [`OrderDocument`], so that a cached and a stored answer are the same to the letter.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::id::OrderId;

/// What an order came to. One that is not settled has no status of its own: it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The customer has the goods.
    Confirmed,
    /// The customer does not, and [`Reason`] says why.
    Rejected,
    /// The order could not be settled and waits for a person.
    Failed,
}

/// Why an order did not get its goods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too few were left when its turn came.
    SoldOut,
    /// A SKU that the inventory does not know.
    UnknownSku,
    /// Its items are priced in different currencies.
    CurrencyMismatch,
    /// It is in the dead-letter queue.
    DeadLettered,
}

impl Status {
    /// The word in the database, in metrics and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl Reason {
    /// The word in the database, in metrics and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::UnknownSku => "unknown_sku",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// A settled order as `GET /v1/orders/{order_id}` shows it.
///
/// `Items` is whatever serialises as a list of `{"sku","quantity","unit_price_minor"}`: values in
/// the worker, the stored JSON in the ingest process.
#[derive(Debug, Serialize)]
pub struct OrderDocument<'a, Items> {
    /// The id that the client asked for; another name of the order for a repeat after midnight.
    pub order_id: OrderId,
    /// `confirmed`, `rejected` or `failed`.
    pub status: &'a str,
    /// Why, unless confirmed.
    pub reason: Option<&'a str>,
    /// Who ordered.
    pub customer_id: &'a str,
    /// What was ordered, each with its price at the time of settling, if the SKU was known.
    pub items: Items,
    /// What a confirmed order costs, in the currency's smallest unit.
    pub total_minor: Option<i64>,
    /// The ISO 4217 code of a confirmed order.
    pub currency: Option<&'a str>,
    /// When the request was taken.
    #[serde(serialize_with = "timestamp")]
    pub accepted_at: DateTime<Utc>,
    /// When the outcome was committed.
    #[serde(serialize_with = "timestamp")]
    pub settled_at: DateTime<Utc>,
}

/// Writes a time as RFC 3339 in UTC with milliseconds, the form of every time in the API.
///
/// # Errors
/// What the serializer returns.
pub fn timestamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
