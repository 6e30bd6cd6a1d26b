//! The news on `hotrow.settled`: what just became true, for whoever is listening now.
//!
//! News is transient and may be lost: it fills caches and wakes waiters early, and where it is missing
//! PostgreSQL is asked. Nothing may rest on it alone.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    change::{Answer, Ticket},
    id::OrderId,
    order::Sku,
    sale::{Rules, Switch},
};

/// The most orders in one message of news, so that a large batch stays a few hundred kilobytes.
pub const NEWS_ORDERS_MAX: usize = 1_000;

/// One message of news. `Document` is the JSON of a settled order, as values or as raw text.
#[derive(Debug, Serialize, Deserialize)]
pub struct News<Document> {
    /// What the worker that settled knows of its queue; absent from an admin change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueNews>,
    /// The stock of every SKU that was looked at.
    pub stock: Vec<StockNews>,
    /// Orders that became something, with their documents.
    pub settled: Vec<SettledNews<Document>>,
    /// Orders that were found settled already: a waiter reads them from the database.
    #[serde(default)]
    pub found: Vec<OrderId>,
    /// Changes that somebody waits for, and how they were settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<(Ticket, Answer)>,
    /// What an administrator just said of SKUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ruled: Vec<(Sku, Rules)>,
    /// The switch for all purchases, if it was just changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Switch>,
}

impl<Document> Default for News<Document> {
    fn default() -> Self {
        Self {
            queue: None,
            stock: Vec::new(),
            settled: Vec::new(),
            found: Vec::new(),
            answers: Vec::new(),
            ruled: Vec::new(),
            switch: None,
        }
    }
}

/// News as it is received: the documents stay text.
pub type ReceivedNews<'a> = News<&'a RawValue>;

/// What a worker knows of one partition after a batch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QueueNews {
    /// The partition that the queue belongs to.
    pub partition: u16,
    /// Orders that the batch took off the queue.
    pub taken_orders: u32,
    /// The mean time from accept to settled of the batch, in milliseconds.
    pub age_ms: u32,
}

/// The stock of one SKU after a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StockNews {
    /// The product.
    pub sku: Sku,
    /// The row's version. Of two messages the one with the higher version is the later.
    pub version: i64,
    /// What is free to sell.
    pub available: i64,
    /// What is held for orders that are not paid yet.
    #[serde(default)]
    pub held: i64,
}

/// A settled order and its document.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettledNews<Document> {
    /// The order.
    pub order_id: OrderId,
    /// The revision of the document. Of two messages the one with the higher revision is the later.
    #[serde(default = "first_revision")]
    pub revision: i32,
    /// Whether nothing changes the order any more.
    #[serde(default)]
    pub is_final: bool,
    /// What `GET /v1/orders/{order_id}` shows.
    pub document: Document,
}

/// Workers of the release before do not say it: they know no changes.
const fn first_revision() -> i32 {
    1
}

/// Reads a message of news.
///
/// # Errors
/// The message is not JSON of this shape.
pub fn read(body: &[u8]) -> Result<ReceivedNews<'_>, serde_json::Error> {
    serde_json::from_slice(body)
}
