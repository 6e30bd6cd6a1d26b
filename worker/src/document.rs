//! What a worker writes about an order: its outcome, its items with their prices, and its document.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    envelope::Order,
    order::{Items, Sku},
    outcome::{OrderDocument, Reason, Status},
};
use serde::{Serialize, Serializer, ser::SerializeSeq};
use serde_json::value::RawValue;

use crate::stock::{Hold, Stock};

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// Why, unless the customer has the goods.
    pub(crate) reason: Option<Reason>,
    /// The price of everything that the customer gets, in the one currency of its items.
    pub(crate) total_minor: Option<i64>,
    /// 1, but for an order that was a dead letter before.
    pub(crate) revision: i32,
    /// How long the goods are held until they are paid.
    pub(crate) hold: Option<Hold>,
}

impl Outcome {
    /// The customer has the goods.
    pub(crate) const fn confirmed(total_minor: i64) -> Self {
        Self {
            status: Status::Confirmed,
            reason: None,
            total_minor: Some(total_minor),
            revision: 1,
            hold: None,
        }
    }

    /// The goods are held for the customer.
    pub(crate) const fn reserved(total_minor: i64, hold: Hold) -> Self {
        Self {
            status: Status::Reserved,
            hold: Some(hold),
            ..Self::confirmed(total_minor)
        }
    }

    /// Until when the goods are held, without an extension and with all of them.
    pub(crate) fn ends(self, settled_at: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let after = |seconds: i32| settled_at + TimeDelta::seconds(seconds.into());
        self.hold
            .map(|hold| (after(hold.seconds), after(hold.seconds_max)))
    }

    /// `confirmed`, or the reason why not.
    pub(crate) fn as_str(self) -> &'static str {
        self.reason.map_or(self.status.as_str(), Reason::as_str)
    }

    /// The customer does not.
    pub(crate) const fn rejected(reason: Reason) -> Self {
        Self {
            status: Status::Rejected,
            reason: Some(reason),
            total_minor: None,
            revision: 1,
            hold: None,
        }
    }
}

/// The items of an order with the prices of the locked rows. It serialises as the list that is
/// stored and that clients see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PricedItems<'a> {
    pub(crate) items: &'a Items,
    /// The rows of the known SKUs.
    pub(crate) stock: &'a BTreeMap<Sku, Stock>,
}

#[derive(Serialize)]
struct PricedItem<'a> {
    sku: &'a Sku,
    quantity: u32,
    unit_price_minor: Option<i64>,
}

/// The items of an order that was not settled, without prices, as JSON text.
pub(crate) fn unpriced(items: &Items) -> String {
    let stock = BTreeMap::new();
    let items = PricedItems {
        items,
        stock: &stock,
    };
    items.json()
}

impl<'a> PricedItems<'a> {
    /// The list as JSON text.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("a list of items has no map keys and no failing field")
    }

    /// The list as it stands in a document.
    pub(crate) fn raw(&self) -> Box<RawValue> {
        RawValue::from_string(self.json()).expect("a list that was just written")
    }

    /// The currency of the first item.
    pub(crate) fn currency(&self) -> Option<&'a str> {
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

/// The document of a settled order, as news carries it and as a later read of its row shows it.
pub(crate) fn document<'a>(
    order: &'a Order,
    outcome: Outcome,
    stock: &'a BTreeMap<Sku, Stock>,
    settled_at: DateTime<Utc>,
) -> OrderDocument<'a, PricedItems<'a>> {
    let items = PricedItems {
        items: &order.items,
        stock,
    };
    OrderDocument {
        order_id: order.id,
        alias_of: None,
        status: outcome.status.as_str(),
        revision: outcome.revision,
        reason: outcome.reason.map(Reason::as_str),
        customer_id: order.customer_id.as_str(),
        items,
        total_minor: outcome.total_minor,
        currency: outcome.total_minor.and_then(|_| items.currency()),
        accepted_at: accepted_at(order),
        settled_at,
        updated_at: settled_at,
        expires_at: outcome.ends(settled_at).map(|(expires_at, _)| expires_at),
        payment_reference: None,
        restocked: None,
    }
}

/// When the order was accepted. A time that no calendar knows, which only a forged envelope can
/// carry, becomes 1970.
pub(crate) fn accepted_at(order: &Order) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(order.accepted_ms).unwrap_or_default()
}
