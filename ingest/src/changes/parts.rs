//! The parts of an order's document that a change needs, and whether they show that it is done.

use chrono::{DateTime, Utc};
use hotrow_shared::{change::Ask, id::OrderId, order::Sku, outcome::Status};
use serde::Deserialize;

/// What a change needs to know of the order.
#[derive(Debug, Deserialize)]
pub(super) struct Parts {
    order_id: OrderId,
    #[serde(default)]
    alias_of: Option<OrderId>,
    status: String,
    items: Vec<Item>,
    #[serde(default)]
    payment_reference: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    sku: Sku,
}

impl Parts {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no document of an order.
    pub(super) fn read(document: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(document)
    }

    /// The first name of the order, which changes go by.
    pub(super) fn first_id(&self) -> OrderId {
        self.alias_of.unwrap_or(self.order_id)
    }

    /// What was ordered.
    pub(super) fn skus(&self) -> Vec<Sku> {
        self.items.iter().map(|item| item.sku.clone()).collect()
    }

    /// Whether the order is what was asked for, by a change accepted then, in milliseconds since 1970.
    pub(super) fn show(&self, ask: &Ask, accepted_ms: i64) -> bool {
        let status: Option<Status> = self.status.parse().ok();
        match ask {
            Ask::Confirm(payment) => {
                let is_paid = matches!(status, Some(Status::Confirmed | Status::Cancelled));
                is_paid && self.payment_reference.as_ref() == Some(&payment.reference)
            }
            Ask::Cancel(_) => status == Some(Status::Cancelled),
            Ask::Extend(extension) => {
                let asked_ms = accepted_ms + i64::from(extension.seconds) * 1_000;
                self.expires_ms().is_some_and(|until| until >= asked_ms)
            }
            Ask::Expire(_) => status == Some(Status::Expired),
        }
    }

    fn expires_ms(&self) -> Option<i64> {
        let expires_at: DateTime<Utc> = self.expires_at.as_ref()?.parse().ok()?;
        Some(expires_at.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use hotrow_shared::{
        change::{Cancellation, Extension, Payment},
        id::IdMint,
    };
    use serde_json::json;

    use super::*;

    fn order(status: &str, reference: Option<&str>, expires_at: Option<&str>) -> Parts {
        let mint = IdMint::new("a secret of a test", None);
        let document = json!({
            "order_id": mint.mint(1), "alias_of": mint.mint(2), "status": status, "revision": 2, "customer_id": "c-1",
            "items": [{"sku": "b", "quantity": 1, "unit_price_minor": null}, {"sku": "a", "quantity": 2}],
            "payment_reference": reference, "expires_at": expires_at,
        });
        Parts::read(document.to_string().as_bytes()).expect("a document")
    }

    #[test]
    fn a_change_goes_by_the_first_name_and_names_every_sku() {
        let mint = IdMint::new("a secret of a test", None);
        let order = order("confirmed", None, None);
        assert_ne!(order.first_id(), order.order_id);
        assert_eq!(order.first_id().day(), mint.mint(2).day());
        let skus: Vec<_> = order.skus().iter().map(ToString::to_string).collect();
        assert_eq!(skus, ["b", "a"]);
    }

    #[test]
    fn a_payment_is_done_once_the_order_shows_it() {
        let ask = Ask::Confirm(Payment {
            reference: "pi_1".to_owned(),
            amount_minor: None,
            currency: None,
        });
        assert!(order("confirmed", Some("pi_1"), None).show(&ask, 0));
        assert!(order("cancelled", Some("pi_1"), None).show(&ask, 0));
        assert!(!order("confirmed", Some("pi_2"), None).show(&ask, 0));
        assert!(!order("confirmed", None, None).show(&ask, 0));
        assert!(!order("reserved", Some("pi_1"), None).show(&ask, 0));
        assert!(!order("a-status-to-come", Some("pi_1"), None).show(&ask, 0));
    }

    #[test]
    fn a_cancellation_is_done_once_the_order_is_cancelled() {
        let ask = Ask::Cancel(Cancellation {
            reason: None,
            restock: true,
        });
        assert!(order("cancelled", None, None).show(&ask, 0));
        assert!(!order("expired", None, None).show(&ask, 0));
    }

    #[test]
    fn an_extension_is_done_once_the_hold_lasts_as_long_as_asked() {
        let ask = Ask::Extend(Extension { seconds: 60 });
        let until = |time| order("reserved", None, Some(time));
        assert!(until("1970-01-01T00:01:01.500Z").show(&ask, 1_500));
        assert!(!until("1970-01-01T00:01:01.499Z").show(&ask, 1_500));
        assert!(!order("reserved", None, None).show(&ask, 1_500));
    }
}
