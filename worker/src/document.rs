//! What a worker writes about an order: its items with their prices, and the document of its outcome.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hotrow_shared::{
    envelope::Order,
    order::{Items, Sku},
    outcome::{OrderDocument, Reason, Status},
};
use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::settle::decision::Stock;

/// The items of an order with the prices of the locked rows. It serialises as the list that is
/// stored and that clients see.
#[derive(Debug, Clone, Copy)]
pub struct PricedItems<'a> {
    /// What was ordered.
    pub items: &'a Items,
    /// The rows of the known SKUs.
    pub stock: &'a BTreeMap<Sku, Stock>,
}

#[derive(Serialize)]
struct PricedItem<'a> {
    sku: &'a Sku,
    quantity: u32,
    unit_price_minor: Option<i64>,
}

impl<'a> PricedItems<'a> {
    /// The list as JSON text.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a list of items has no map keys and no failing field")
    }

    /// The currency of the first item.
    #[must_use]
    pub fn currency(&self) -> Option<&'a str> {
        let first = self.items.as_slice().first()?;
        self.stock.get(&first.sku).map(|row| row.currency.as_str())
    }
}

impl Serialize for PricedItems<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = self.items.as_slice();
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            let unit_price_minor = self.stock.get(&item.sku).map(|row| row.unit_price_minor);
            list.serialize_element(&PricedItem {
                sku: &item.sku,
                quantity: item.quantity.into(),
                unit_price_minor,
            })?;
        }
        list.end()
    }
}

/// The document of a settled order, as the news carry it and as a later read of its row gives it.
#[must_use]
pub fn document<'a>(
    order: &'a Order,
    (status, reason): (Status, Option<Reason>),
    total_minor: Option<i64>,
    stock: &'a BTreeMap<Sku, Stock>,
    settled_at: DateTime<Utc>,
) -> OrderDocument<'a, PricedItems<'a>> {
    let items = PricedItems {
        items: &order.items,
        stock,
    };
    OrderDocument {
        order_id: order.id,
        status: status.as_str(),
        reason: reason.map(Reason::as_str),
        customer_id: order.customer_id.as_str(),
        items,
        total_minor,
        currency: total_minor.and_then(|_| items.currency()),
        accepted_at: accepted_at(order),
        settled_at,
    }
}

/// When the order was accepted. A time that no calendar knows, which only a forged envelope can
/// carry, becomes 1970.
#[must_use]
pub fn accepted_at(order: &Order) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(order.accepted_ms).unwrap_or_default()
}
