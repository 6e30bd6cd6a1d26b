//! The outcome of an order, and the one place that writes it as the JSON that a client polls.
//!
//! The worker writes it into its news and the ingest process writes it from a database row: both
//! through [`OrderDocument`], so that a cached and a stored answer are the same to the letter.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::id::OrderId;

/// What an order came to. One that is not settled has no status of its own: it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The goods are held until the order is paid.
    Reserved,
    /// The customer has the goods.
    Confirmed,
    /// The goods were held, and were not paid in time.
    Expired,
    /// The customer or the shop gave the goods up.
    Cancelled,
    /// The customer does not get the goods, and [`Reason`] says why.
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
    /// A price is not the one that the buyer saw.
    PriceChanged,
    /// It was accepted after the sale.
    Closed,
    /// It was accepted before the sale.
    NotOpen,
    /// It is more than one order, or its customer, may have.
    LimitReached,
    /// It is in the dead-letter queue.
    DeadLettered,
    /// Its hold was over before a payment came.
    NotPaid,
    /// The customer cancelled it.
    ByCustomer,
    /// The shop cancelled it, and said no more.
    ByShop,
}

impl Status {
    /// The word in the database, in metrics and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Confirmed => "confirmed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing changes an order that stands so.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Rejected)
    }
}

/// The text is no status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a status of an order")]
pub struct NotAStatus;

impl FromStr for Status {
    type Err = NotAStatus;

    fn from_str(text: &str) -> Result<Self, NotAStatus> {
        let all = [
            Self::Reserved,
            Self::Confirmed,
            Self::Expired,
            Self::Cancelled,
            Self::Rejected,
            Self::Failed,
        ];
        let named = all.into_iter().find(|status| status.as_str() == text);
        named.ok_or(NotAStatus)
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
            Self::PriceChanged => "price_changed",
            Self::Closed => "closed",
            Self::NotOpen => "not_open",
            Self::LimitReached => "limit_reached",
            Self::DeadLettered => "dead_lettered",
            Self::NotPaid => "not_paid",
            Self::ByCustomer => "by_customer",
            Self::ByShop => "by_shop",
        }
    }
}

/// A settled order as `GET /v1/orders/{order_id}` shows it.
///
/// `Items` is whatever serialises as a list of `{"sku","quantity","unit_price_minor"}`: values in
/// the worker, the stored JSON in the ingest process.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderDocument<'a, Items> {
    /// The id that the client asked for; another name of the order for a repeat after midnight.
    pub order_id: OrderId,
    /// The first name of the order, if the client asked for another one.
    #[schema(required, value_type = Option<uuid::Uuid>)]
    pub alias_of: Option<OrderId>,
    /// What the order is now: the word of a [`Status`].
    pub status: &'a str,
    /// Counts what became of the order: 1 at settling, one more with each change.
    #[schema(minimum = 0)]
    pub revision: i32,
    /// Why, unless the goods are held or the customer has them.
    #[schema(required)]
    pub reason: Option<&'a str>,
    /// Who ordered.
    pub customer_id: &'a str,
    /// What was ordered, each with its price at the time of settling, if the SKU was known.
    pub items: Items,
    /// What an order that got its goods costs, in the currency's smallest unit.
    #[schema(required, minimum = 0)]
    pub total_minor: Option<i64>,
    /// The ISO 4217 code of an order that got its goods.
    #[schema(required, pattern = "^[A-Z]{3}$")]
    pub currency: Option<&'a str>,
    /// When the request was taken.
    #[serde(serialize_with = "timestamp")]
    pub accepted_at: DateTime<Utc>,
    /// When the first outcome was committed.
    #[serde(serialize_with = "timestamp")]
    pub settled_at: DateTime<Utc>,
    /// When the order became what it is now.
    #[serde(serialize_with = "timestamp")]
    pub updated_at: DateTime<Utc>,
    /// Until when the goods of a reserved order are held.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The payment that paid the order.
    #[schema(required)]
    pub payment_reference: Option<&'a str>,
    /// Of a cancelled order: whether its goods went back into the stock.
    #[schema(required)]
    pub restocked: Option<bool>,
}

/// Writes a time as [`timestamp`] does, or null.
///
/// # Errors
/// What the serializer returns.
pub fn timestamp_if_any<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => timestamp(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a time as RFC 3339 in UTC with milliseconds, the form of every time in the API.
///
/// # Errors
/// What the serializer returns.
pub fn timestamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
