//! Events: what programs beside and behind Hotrow are told, at least once, as `CloudEvents` 1.0.
//!
//! A consumer drops what it has seen by [`Event::id`], and orders by the revision or version in it, not by arrival.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{id::OrderId, order::Sku, outcome::timestamp};

/// The content type of a message of events: a JSON array of them. (`CloudEvents` 1.0, JSON Format, section 4.)
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// The goods are held until the order is paid.
    OrderReserved,
    /// The customer has the goods.
    OrderConfirmed,
    /// The goods are held for longer.
    OrderExtended,
    /// The goods were not paid in time.
    OrderExpired,
    /// The goods were given up.
    OrderCancelled,
    /// The order could not be settled and waits for a person.
    OrderFailed,
    /// The customer does not get the goods.
    OrderRejected,
    /// A payment did not pay its order.
    PaymentUnmatched,
    /// Nothing is sent to an endpoint any more.
    WebhookDisabled,
    /// An administrator changed a product, or it is sold out, or has goods again.
    InventoryChanged,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::OrderReserved,
        Self::OrderConfirmed,
        Self::OrderExtended,
        Self::OrderExpired,
        Self::OrderCancelled,
        Self::OrderFailed,
        Self::OrderRejected,
        Self::PaymentUnmatched,
        Self::WebhookDisabled,
        Self::InventoryChanged,
    ];

    /// The word in the event, which is its routing key, too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderReserved => "order.reserved",
            Self::OrderConfirmed => "order.confirmed",
            Self::OrderExtended => "order.extended",
            Self::OrderExpired => "order.expired",
            Self::OrderCancelled => "order.cancelled",
            Self::OrderFailed => "order.failed",
            Self::OrderRejected => "order.rejected",
            Self::PaymentUnmatched => "payment.unmatched",
            Self::WebhookDisabled => "webhook.disabled",
            Self::InventoryChanged => "inventory.changed",
        }
    }
}

/// The text is no type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a type of event")]
pub struct NotAnEventType;

impl FromStr for EventType {
    type Err = NotAnEventType;

    fn from_str(text: &str) -> Result<Self, NotAnEventType> {
        let named = Self::ALL.into_iter().find(|it| it.as_str() == text);
        named.ok_or(NotAnEventType)
    }
}

/// An event in the JSON format of `CloudEvents` 1.0.
#[derive(Debug, Serialize)]
pub struct Event<'a, Data> {
    /// The version of the format.
    pub specversion: &'static str,
    /// The same for the same event, however often it is sent.
    pub id: String,
    /// The installation.
    pub source: &'a str,
    /// The word of an [`EventType`].
    pub r#type: &'static str,
    /// The order, SKU or endpoint.
    pub subject: &'a str,
    /// When it was committed.
    #[serde(serialize_with = "timestamp")]
    pub time: DateTime<Utc>,
    /// Of `data`.
    pub datacontenttype: &'static str,
    /// What there is to know.
    pub data: Data,
}

impl<'a, Data> Event<'a, Data> {
    /// An event of this installation.
    pub fn new(
        r#type: EventType,
        id: String,
        source: &'a str,
        subject: &'a str,
        time: DateTime<Utc>,
        data: Data,
    ) -> Self {
        Self {
            specversion: "1.0",
            id,
            source,
            r#type: r#type.as_str(),
            subject,
            time,
            datacontenttype: "application/json",
            data,
        }
    }
}

/// The id of the event that tells of an order at a revision.
#[must_use]
pub fn order_event_id(order_id: OrderId, revision: i32) -> String {
    format!("{order_id}/{revision}")
}

/// The id of the event that tells of a payment that did not pay this order. A reference is cut to a hash, because it
/// may be long.
#[must_use]
pub fn unmatched_event_id(order_id: &str, payment_reference: &str) -> String {
    let hash = blake3::hash(payment_reference.as_bytes());
    format!("{order_id}/unmatched/{}", &hash.to_hex()[..HASH_LENGTH])
}

/// Hexadecimal digits of a hash in an id.
const HASH_LENGTH: usize = 32;

/// Why the stock of a SKU is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The product was created or replaced.
    Put,
    /// Some of it was changed.
    Patch,
    /// Stock was added or taken away.
    Restock,
    /// Nothing is left to sell.
    SoldOut,
    /// There is something to sell again.
    Reopened,
}

/// Reads the word of a cause.
#[must_use]
pub fn cause(word: &str) -> Option<Cause> {
    let all = [
        Cause::Put,
        Cause::Patch,
        Cause::Restock,
        Cause::SoldOut,
        Cause::Reopened,
    ];
    all.into_iter().find(|cause| cause.as_str() == word)
}

impl Cause {
    /// The word in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Restock => "restock",
            Self::SoldOut => "sold_out",
            Self::Reopened => "reopened",
        }
    }
}

/// The data of `inventory.changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InventoryChanged {
    /// The product.
    pub sku: Sku,
    /// What is free to sell.
    pub available: i64,
    /// What is held for orders that are not paid yet.
    pub held: i64,
    /// Counts the writes of the product's row: of two events, the one with the higher version is the later.
    pub version: i64,
    /// Why it is told.
    pub cause: Cause,
}
/// Puts an event that no table can give again into the outbox, in the transaction of what it tells. A worker publishes
/// it.
///
/// # Errors
/// The database is out of reach.
pub async fn write_to_outbox(
    connection: &mut PgConnection,
    at: DateTime<Utc>,
    event: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into event_outbox (at, due_at, event) values ($1, $1, $2::text::json)",
        at,
        event
    )
    .execute(connection)
    .await?;
    Ok(())
}
