//! The envelope: one AMQP message that carries the orders a lane gathered, in order of arrival.
//!
//! The body is JSON, `{"v":1,"orders":[…]}`, so that a person can read a dead letter. Each order
//! is encoded by the task that took the request, and the lane only strings the pieces together:
//! the one task that every order of a hot SKU passes does no work per field.
//!
//! Reading is forgiving towards neighbours: an order that cannot be read is handed back with its
//! reason and the others are taken.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    id::{IdempotencyKey, OrderId},
    order::{CustomerId, Items},
};

/// The version this release writes, and the only one that it reads.
const VERSION: u32 = 1;

/// One accepted order on its way to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Who wants it.
    pub customer_id: CustomerId,
    /// What is wanted.
    pub items: Items,
    /// When the ingest process took the request, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// The client's own name for the purchase, from which `id` was derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
}

/// One order as it stands in an envelope.
#[derive(Debug)]
pub struct EncodedOrder(Vec<u8>);

impl Order {
    /// Encodes the order for an envelope.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn encode(&self) -> EncodedOrder {
        EncodedOrder(
            serde_json::to_vec(self).expect("an order has no map keys and no failing field"),
        )
    }
}

/// Strings encoded orders together to the body of one message.
#[must_use]
pub fn seal<'a>(orders: impl IntoIterator<Item = &'a EncodedOrder, IntoIter: Clone>) -> Vec<u8> {
    let orders = orders.into_iter();
    let head = format!(r#"{{"v":{VERSION},"orders":["#);
    let length: usize = orders.clone().map(|order| order.0.len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + length + 2);
    body.extend_from_slice(head.as_bytes());
    for (at, order) in orders.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&order.0);
    }
    body.extend_from_slice(b"]}");
    body
}

/// What was in an envelope, in order of arrival.
#[derive(Debug, Default)]
pub struct Opened {
    /// The orders that can be settled.
    pub orders: Vec<Order>,
    /// The pieces that cannot be read as an order.
    pub unreadable: Vec<Unreadable>,
}

/// A piece of an envelope, or a whole one, that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The message as it came, or an envelope of the piece alone, which a later release may read.
    pub body: Vec<u8>,
    /// What is wrong with them.
    pub detail: String,
}

#[derive(Deserialize)]
struct Whole {
    v: u32,
    orders: Vec<Order>,
}

#[derive(Deserialize)]
struct Pieces<'a> {
    v: u32,
    #[serde(borrow)]
    orders: Vec<&'a RawValue>,
}

/// Reads the body of a message.
#[must_use]
pub fn open(body: &[u8]) -> Opened {
    match serde_json::from_slice::<Whole>(body) {
        Ok(Whole { v: VERSION, orders }) => Opened {
            orders,
            unreadable: Vec::new(),
        },
        _ => open_piecewise(body),
    }
}

/// The slow way, taken only when something is wrong: every order is read by itself.
fn open_piecewise(body: &[u8]) -> Opened {
    let whole_is = |detail: String| Opened {
        orders: Vec::new(),
        unreadable: vec![Unreadable {
            body: body.to_vec(),
            detail,
        }],
    };
    let pieces = match serde_json::from_slice::<Pieces<'_>>(body) {
        Ok(Pieces { v: VERSION, orders }) => orders,
        Ok(Pieces { v, .. }) => {
            return whole_is(format!(
                "envelope version {v}, this worker reads {VERSION}: upgrade the workers first"
            ));
        }
        Err(error) => return whole_is(format!("not an envelope: {error}")),
    };
    let mut opened = Opened::default();
    for piece in pieces {
        match serde_json::from_str(piece.get()) {
            Ok(order) => opened.orders.push(order),
            Err(error) => opened.unreadable.push(Unreadable {
                body: seal([&EncodedOrder(piece.get().as_bytes().to_vec())]),
                detail: format!("not an order: {error}"),
            }),
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::IdMint;

    fn order() -> impl Strategy<Value = Order> {
        let items = proptest::collection::btree_map("[A-Za-z0-9._:@-]{1,64}", 1u32..=1000, 1..=20);
        let key = proptest::option::of("[!#-~]{1,255}");
        ("[A-Za-z0-9._:@-]{1,64}", items, 0..1i64 << 47, key).prop_map(
            |(name, items, accepted_ms, key)| {
                let mint = IdMint::new("a secret of a test", None);
                let items: Vec<_> = items
                    .into_iter()
                    .map(|(sku, quantity)| serde_json::json!({ "sku": sku, "quantity": quantity }))
                    .collect();
                Order {
                    id: mint.mint(accepted_ms.unsigned_abs()),
                    customer_id: CustomerId::try_from(name.as_str()).expect("a valid name"),
                    items: serde_json::from_value(items.into()).expect("valid items"),
                    accepted_ms,
                    key: key.map(|key| IdempotencyKey::try_from(key).expect("a valid key")),
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_sealed_is_opened_unchanged_and_in_order(orders in proptest::collection::vec(order(), 0..20)) {
            let encoded: Vec<_> = orders.iter().map(Order::encode).collect();
            let opened = open(&seal(&encoded));
            prop_assert_eq!(opened.orders, orders);
            prop_assert_eq!(opened.unreadable, vec![]);
        }

        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let opened = open(&bytes);
            prop_assert_eq!(opened.orders.len(), 0);
            prop_assert_eq!(opened.unreadable.len(), 1);
        }
    }

    #[test]
    fn a_broken_order_does_not_take_its_neighbours_along() {
        let good = r#"{"id":"0199e8b0-0000-8000-8000-000000000000","customer_id":"c","items":[{"sku":"a","quantity":1}],"accepted_ms":1}"#;
        let body = format!(r#"{{"v":1,"orders":[{good},{{"id":7}},{good}]}}"#);
        let opened = open(body.as_bytes());
        assert_eq!(opened.orders.len(), 2);
        assert_eq!(opened.unreadable.len(), 1);
        assert_eq!(opened.unreadable[0].body, br#"{"v":1,"orders":[{"id":7}]}"#);
    }

    #[test]
    fn an_envelope_of_another_version_is_kept_whole() {
        let opened = open(br#"{"v":2,"orders":[]}"#);
        assert!(opened.unreadable[0].detail.contains("version 2"));
    }
}
