//! The order and its parts, as types that cannot hold an invalid value.
//!
//! Every bound of the HTTP contract that concerns an order stands here once, so that the ingest
//! process refuses and the worker dead-letters by the same rule.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, RefOr, Schema},
};

use crate::schema;

/// The longest SKU, in characters.
pub const SKU_LENGTH_MAX: usize = 64;
/// The longest customer id, in characters.
pub const CUSTOMER_ID_LENGTH_MAX: usize = 128;
/// The most items in one order.
pub const ITEMS_MAX: usize = 20;
/// How long goods are held at most with all extensions, in seconds from settling, unless a product says otherwise.
const HOLD_SECONDS_MAX: i32 = 3_600;
/// The highest price of one piece, in the currency's smallest unit: with it, a full order's total still is a number
/// that JavaScript holds exactly.
pub const PRICE_MAX: i64 = 100_000_000_000;
/// The largest quantity of one item.
pub const QUANTITY_MAX: u32 = 1_000;

/// Why a value cannot be part of an order. The message is shown to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// A SKU of the wrong length or with a foreign character.
    #[error("must be 1 to {SKU_LENGTH_MAX} characters of A-Z a-z 0-9 . _ : @ -")]
    Sku,
    /// A customer id of the wrong length or with a foreign character.
    #[error("must be 1 to {CUSTOMER_ID_LENGTH_MAX} characters of A-Z a-z 0-9 . _ : @ | + = / ~ -")]
    CustomerId,
    /// A quantity of nothing, or of too much.
    #[error("must be 1 to {QUANTITY_MAX}")]
    Quantity,
    /// A price below nothing, or above all.
    #[error("must be 0 to {PRICE_MAX}")]
    Price,
    /// An order of nothing, or of too many items.
    #[error("must hold 1 to {ITEMS_MAX} items")]
    ItemCount,
    /// The same SKU in two items of one order.
    #[error("must not name a sku twice")]
    RepeatedSku,
}

/// Declares a name of limited length and alphabet, kept inline when short.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $length_max:expr, $punctuation:literal, $described:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(CompactString);

        impl $name {
            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn allows(text: &str) -> bool {
                (1..=$length_max).contains(&text.len())
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || $punctuation.contains(&b))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = OutOfBounds;

            fn try_from(text: &str) -> Result<Self, OutOfBounds> {
                if Self::allows(text) { Ok(Self(text.into())) } else { Err(OutOfBounds::$name) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ToSchema for $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema::name($length_max, $punctuation, $described, $example)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::try_from(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

name! {
    /// The product code that names one row of the inventory: 1 to 64 of `A-Z a-z 0-9 . _ : @ -`.
    Sku, SKU_LENGTH_MAX, b"._:@-", "The code of a product.", "chair-123"
}
name! {
    /// The shop's own name for a customer: 1 to 128 of `A-Z a-z 0-9 . _ : @ | + = / ~ -`, so that the
    /// subjects of common identity providers (`auth0|5f…`) fit.
    CustomerId, CUSTOMER_ID_LENGTH_MAX, b"._:@|+=/~-", "The shop's own name for a customer.", "c-42"
}

/// The quantity of one SKU in an order: 1 to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl TryFrom<u32> for Quantity {
    type Error = OutOfBounds;

    fn try_from(count: u32) -> Result<Self, OutOfBounds> {
        if (1..=QUANTITY_MAX).contains(&count) {
            Ok(Self(count))
        } else {
            Err(OutOfBounds::Quantity)
        }
    }
}

impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> u32 {
        quantity.0
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> i64 {
        i64::from(quantity.0)
    }
}

impl ToSchema for Quantity {}

impl PartialSchema for Quantity {
    fn schema() -> RefOr<Schema> {
        schema::integer(1..=QUANTITY_MAX.into(), "How many pieces.", 1)
    }
}

/// The price of one piece, in the currency's smallest unit: 0 to 100,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Price(i64);

impl Price {
    /// Reads a price that is there. A member that is null is none of the contract's.
    fn deserialize_some<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
}

impl TryFrom<i64> for Price {
    type Error = OutOfBounds;

    fn try_from(price: i64) -> Result<Self, OutOfBounds> {
        if (0..=PRICE_MAX).contains(&price) {
            Ok(Self(price))
        } else {
            Err(OutOfBounds::Price)
        }
    }
}

impl From<Price> for i64 {
    fn from(price: Price) -> i64 {
        price.0
    }
}

impl ToSchema for Price {}

impl PartialSchema for Price {
    fn schema() -> RefOr<Schema> {
        let described = "The price of one piece, in the currency's smallest unit.";
        schema::integer(0..=PRICE_MAX, described, 4_900)
    }
}

/// One SKU and how many of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Item {
    /// The product.
    pub sku: Sku,
    /// How many of it.
    pub quantity: Quantity,
    /// The price of one that the buyer saw, in the currency's smallest unit, if the buyer names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unit_price_minor: Option<Price>,
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

/// Takes an object only: what serde derives would take `["chair",1]`, too.
struct ItemVisitor;

impl<'de> de::Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of sku, quantity and perhaps unit_price_minor")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            sku: Sku,
            quantity: Quantity,
            // Null is no price.
            #[serde(default, deserialize_with = "Price::deserialize_some")]
            unit_price_minor: Option<Price>,
        }
        let map = de::value::MapAccessDeserializer::new(map);
        let Fields {
            sku,
            quantity,
            unit_price_minor,
        } = Fields::deserialize(map)?;
        Ok(Item {
            sku,
            quantity,
            unit_price_minor,
        })
    }
}

/// The items of one order: 1 to 20, no SKU twice, in the customer's own sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Item>")]
pub struct Items(Vec<Item>);

impl Items {
    /// The items, in the sequence in which the customer named them.
    #[must_use]
    pub fn as_slice(&self) -> &[Item] {
        &self.0
    }

    /// The partition whose queue takes an order of these items.
    ///
    /// It follows from the smallest SKU alone, so one SKU ordered by itself always has one
    /// partition, and a cart has one too, however its items are arranged.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> u16 {
        partition_of_all(self.0.iter().map(|item| &item.sku), partitions)
    }
}

impl TryFrom<Vec<Item>> for Items {
    type Error = OutOfBounds;

    fn try_from(items: Vec<Item>) -> Result<Self, OutOfBounds> {
        if !(1..=ITEMS_MAX).contains(&items.len()) {
            return Err(OutOfBounds::ItemCount);
        }
        let repeated = items
            .iter()
            .enumerate()
            .any(|(at, item)| items[..at].iter().any(|earlier| earlier.sku == item.sku));
        if repeated {
            Err(OutOfBounds::RepeatedSku)
        } else {
            Ok(Self(items))
        }
    }
}

impl ToSchema for Items {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Item::name().into_owned(), Item::schema()));
        Item::schemas(schemas);
    }
}

impl PartialSchema for Items {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name(Item::name()))
            .min_items(Some(1))
            .max_items(Some(ITEMS_MAX))
            .description(Some("No SKU twice."))
            .into()
    }
}

/// How long goods are held at most with all extensions, in seconds from settling: as long as the product says, or else
/// an hour, or as long as they are held from the start if that is more.
#[must_use]
pub fn longest_hold(hold_seconds: i32, said: Option<i32>) -> i32 {
    said.unwrap_or(hold_seconds.max(HOLD_SECONDS_MAX))
}

/// The partition of whatever touches these SKUs; see [`Items::partition`].
#[must_use]
pub fn partition_of_all<'a>(skus: impl Iterator<Item = &'a Sku>, partitions: u16) -> u16 {
    let smallest = skus.map(Sku::as_str).min();
    partition_of(smallest.unwrap_or_default(), partitions)
}

/// A stable hash of the SKU, the same in every process and every version.
fn partition_of(sku: &str, partitions: u16) -> u16 {
    let hash = blake3::hash(sku.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_bytes()[..8]);
    let partition = u64::from_le_bytes(head) % u64::from(partitions.max(1));
    u16::try_from(partition).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bounded_in_length_and_alphabet() {
        assert!(Sku::try_from("chair-123_A.b:c@d").is_ok());
        assert!(Sku::try_from("x".repeat(64).as_str()).is_ok());
        for wrong in ["", "a b", "é", "a/b", "a|b", &"x".repeat(65)] {
            assert_eq!(Sku::try_from(wrong), Err(OutOfBounds::Sku), "{wrong:?}");
        }
        for right in ["auth0|5f7c", "a+b=c/d~e@f", &"x".repeat(128)] {
            assert!(CustomerId::try_from(right).is_ok(), "{right:?}");
        }
        for wrong in ["", "a b", "é", "a\\b", &"x".repeat(129)] {
            let refused = CustomerId::try_from(wrong);
            assert_eq!(refused, Err(OutOfBounds::CustomerId), "{wrong:?}");
        }
    }

    #[test]
    fn an_order_of_nothing_of_too_much_or_of_one_sku_twice_is_refused() {
        let parse =
            |json: &str| serde_json::from_str::<Items>(json).map_err(|error| error.to_string());
        assert!(parse(r#"[{"sku":"a","quantity":1000}]"#).is_ok());
        assert!(parse("[]").is_err_and(|e| e.contains("1 to 20 items")));
        assert!(parse(r#"[{"sku":"a","quantity":0}]"#).is_err_and(|e| e.contains("1 to 1000")));
        assert!(
            parse(r#"[{"sku":"a","quantity":1},{"sku":"a","quantity":2}]"#)
                .is_err_and(|e| e.contains("twice"))
        );
    }

    #[test]
    fn a_price_is_written_only_where_the_buyer_named_one() {
        for json in [
            r#"{"sku":"a","quantity":1}"#,
            r#"{"sku":"a","quantity":1,"unit_price_minor":0}"#,
        ] {
            let item: Item = serde_json::from_str(json).expect("an item");
            assert_eq!(serde_json::to_string(&item).expect("JSON"), json);
        }
        for wrong in ["null", "-1", "100000000001", "1.0", "\"1\""] {
            let json = format!(r#"{{"sku":"a","quantity":1,"unit_price_minor":{wrong}}}"#);
            assert!(serde_json::from_str::<Item>(&json).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_partition_of_a_sku_never_changes() {
        // Pinned: another hash would strand queued orders of a SKU behind another worker.
        assert_eq!(
            [
                partition_of("chair-123", 16),
                partition_of("hot", 16),
                partition_of("hot", 1)
            ],
            PINNED_PARTITIONS
        );
    }

    const PINNED_PARTITIONS: [u16; 3] = [9, 10, 0];
}
