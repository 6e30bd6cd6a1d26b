//! An order as it stands: what a change rests on, and the state after it.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    envelope::Order,
    id::OrderId,
    order::Sku,
    outcome::{OrderDocument, Status},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    document::{Outcome, PricedItems, accepted_at},
    stock::Stock,
};

/// An order as it stands between two changes.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: OrderId,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) revision: i32,
    pub(crate) customer_id: String,
    /// The items with their prices, as they are shown.
    pub(crate) items: Box<RawValue>,
    /// The same, as far as they move stock.
    pub(crate) goods: Vec<Goods>,
    pub(crate) total_minor: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) accepted_at: DateTime<Utc>,
    pub(crate) settled_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// Of reserved orders: until when the goods are held.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// Of orders that were reserved: until when they could be held at most.
    pub(crate) extend_max_at: Option<DateTime<Utc>>,
    pub(crate) payment_reference: Option<String>,
    pub(crate) restocked: Option<bool>,
    /// When an order that has goods took them: at settling, or when it was paid late.
    pub(crate) taken_at: DateTime<Utc>,
}

/// How many of a SKU an order has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Goods {
    pub(crate) sku: Sku,
    pub(crate) quantity: i64,
}

/// Reads the goods of a list of items.
pub(crate) fn goods(items: &RawValue) -> Result<Vec<Goods>, serde_json::Error> {
    serde_json::from_str(items.get())
}

/// Reads the word of a status.
pub(crate) fn status(word: &str) -> Result<Status, sqlx::Error> {
    Status::from_str(word).map_err(|error| sqlx::Error::Decode(error.into()))
}

impl Standing {
    /// An order as its first outcome leaves it.
    pub(crate) fn of(
        order: &Order,
        outcome: Outcome,
        stock: &BTreeMap<Sku, Stock>,
        settled_at: DateTime<Utc>,
    ) -> Self {
        let items = PricedItems {
            items: &order.items,
            stock,
        };
        let goods = order.items.as_slice().iter().map(|item| Goods {
            sku: item.sku.clone(),
            quantity: item.quantity.into(),
        });
        let ends = outcome.ends(settled_at);
        Self {
            id: order.id,
            status: outcome.status,
            reason: outcome.reason.map(|reason| reason.as_str().to_owned()),
            revision: outcome.revision,
            customer_id: order.customer_id.as_str().to_owned(),
            items: items.raw(),
            goods: goods.collect(),
            total_minor: outcome.total_minor,
            currency: outcome
                .total_minor
                .and_then(|_| items.currency())
                .map(str::to_owned),
            accepted_at: accepted_at(order),
            settled_at,
            updated_at: settled_at,
            expires_at: ends.map(|(expires_at, _)| expires_at),
            extend_max_at: ends.map(|(_, extend_max_at)| extend_max_at),
            payment_reference: None,
            restocked: None,
            taken_at: settled_at,
        }
    }

    /// Becomes something else, at a time.
    pub(crate) fn become_now(&mut self, status: Status, reason: Option<String>, at: DateTime<Utc>) {
        self.status = status;
        self.reason = reason;
        self.revision += 1;
        self.updated_at = at;
        if status != Status::Reserved {
            self.expires_at = None;
        }
    }

    /// Whether the hold was over so long ago that no payment can be on its way that was accepted before.
    pub(crate) fn is_overdue(&self, grace: TimeDelta, now: DateTime<Utc>) -> bool {
        let due = |expires_at| now - expires_at >= grace;
        self.status == Status::Reserved && self.expires_at.is_some_and(due)
    }

    /// The document of the order, as news carries it and as a later read of its rows shows it.
    pub(crate) fn document(&self) -> OrderDocument<'_, &RawValue> {
        OrderDocument {
            order_id: self.id,
            alias_of: None,
            status: self.status.as_str(),
            revision: self.revision,
            reason: self.reason.as_deref(),
            customer_id: &self.customer_id,
            items: &self.items,
            total_minor: self.total_minor,
            currency: self.currency.as_deref(),
            accepted_at: self.accepted_at,
            settled_at: self.settled_at,
            updated_at: self.updated_at,
            expires_at: self.expires_at,
            payment_reference: self.payment_reference.as_deref(),
            restocked: self.restocked,
        }
    }
}
