//! The body of a purchase, as a type that only a valid one can have.

use std::collections::HashSet;

use hotrow_shared::order::{
    CustomerId, ITEMS_MAX, Item, Items, OutOfBounds, Price, QUANTITY_MAX, Quantity, Sku,
};
use serde::Deserialize;

use crate::http::{
    body,
    json::{Faults, Place, Value},
    problem::Problem,
};

const CUSTOMER_ID: Place<'_> = Place::Member(&Place::Body, "customer_id");
const ITEMS: Place<'_> = Place::Member(&Place::Body, "items");

/// What is bought, and for whom: the body of whoever has to name the customer.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purchase {
    pub(crate) customer_id: CustomerId,
    pub(crate) items: Items,
}

/// The body of a customer who proves who it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnPurchase {
    /// What may be left out may be null, too.
    customer_id: Option<CustomerId>,
    items: Items,
}

impl Purchase {
    /// Reads a purchase. `itself` is the customer who calls, if it is one: it may leave out for whom it buys.
    ///
    /// # Errors
    /// `malformed` if it is not JSON, `invalid` with everything that keeps it from being a purchase.
    pub(crate) fn read(content: &[u8], itself: Option<&CustomerId>) -> Result<Self, Problem> {
        let Some(itself) = itself else {
            return body::parse(content, Self::examine);
        };
        let OwnPurchase { customer_id, items } = body::parse(content, OwnPurchase::examine)?;
        Ok(Self {
            customer_id: customer_id.unwrap_or_else(|| itself.clone()),
            items,
        })
    }

    /// Reads one by hand, and notes everything that keeps it from being one.
    fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let (customer_id, items) = examine(body, faults, |value, faults| {
            if value.is_none() {
                faults.add(&CUSTOMER_ID, "is missing");
            }
            name::<CustomerId>(&CUSTOMER_ID, value?, faults)
        })?;
        Some(Self {
            customer_id: customer_id?,
            items: items?,
        })
    }
}

impl OwnPurchase {
    /// The same for a customer who may leave itself out.
    fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let (customer_id, items) = examine(body, faults, |value, faults| match value {
            Some(Value::Null) | None => None,
            Some(value) => name::<CustomerId>(&CUSTOMER_ID, value, faults),
        })?;
        Some(Self {
            customer_id,
            items: items?,
        })
    }
}

type Examined = (Option<CustomerId>, Option<Items>);

/// Notes everything that is wrong with a purchase. What is right of it is returned.
fn examine(
    body: &Value,
    faults: &mut Faults,
    examine_customer: impl FnOnce(Option<&Value>, &mut Faults) -> Option<CustomerId>,
) -> Option<Examined> {
    let names = ["customer_id", "items"];
    let [customer_id, items] = faults.optional_members(&Place::Body, body, names)?;
    let customer_id = examine_customer(customer_id, faults);
    if items.is_none() {
        faults.add(&ITEMS, "is missing");
    }
    let items = items.and_then(|value| examine_items(&ITEMS, value, faults));
    Some((customer_id, items))
}

fn examine_items(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<Items> {
    let elements = faults.elements(place, value)?;
    if !(1..=ITEMS_MAX).contains(&elements.len()) {
        faults.add(place, OutOfBounds::ItemCount);
    }
    let (mut items, mut skus) = (Vec::new(), HashSet::new());
    for (at, value) in elements.iter().enumerate() {
        let place = Place::Element(place, at);
        let names = ["sku", "quantity", "unit_price_minor"];
        let Some([sku, quantity, price]) = faults.optional_members(&place, value, names) else {
            continue;
        };
        for (name, member) in names.iter().zip([sku, quantity]) {
            if member.is_none() {
                faults.add(&Place::Member(&place, name), "is missing");
            }
        }
        let sku = sku.and_then(|value| {
            let place = Place::Member(&place, "sku");
            let sku = name::<Sku>(&place, value, faults)?;
            if !skus.insert(sku.clone()) {
                faults.add(&place, OutOfBounds::RepeatedSku);
            }
            Some(sku)
        });
        let quantity = quantity.and_then(|value| {
            let place = Place::Member(&place, "quantity");
            let quantity = faults.integer(&place, value, 1..=i64::from(QUANTITY_MAX))?;
            Quantity::try_from(u32::try_from(quantity).ok()?).ok()
        });
        let unit_price_minor = price.and_then(|value| {
            let place = Place::Member(&place, "unit_price_minor");
            let price = faults.price(&place, value)?;
            Price::try_from(price).ok()
        });
        if let (Some(sku), Some(quantity)) = (sku, quantity) {
            items.push(Item {
                sku,
                quantity,
                unit_price_minor,
            });
        }
    }
    Items::try_from(items).ok()
}

/// Reads a name of limited length and alphabet.
fn name<'v, T: TryFrom<&'v str, Error = OutOfBounds>>(
    place: &Place<'_>,
    value: &'v Value,
    faults: &mut Faults,
) -> Option<T> {
    T::try_from(faults.text(place, value)?)
        .map_err(|error| faults.add(place, error))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<Purchase, Problem> {
        Purchase::read(text.as_ref(), None)
    }

    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, code: &str, detail: &str) {
        let problem = parse(&text).expect_err("must be refused");
        let sentence = problem.to_string();
        assert_eq!(problem.code(), code, "{sentence}");
        assert!(
            sentence.contains(detail),
            "{sentence:?} should say {detail:?}"
        );
    }

    fn order(items: &str) -> String {
        format!(r#"{{"customer_id":"c","items":{items}}}"#)
    }

    const ITEM: &str = r#"[{"sku":"chair-123","quantity":1}]"#;

    #[test]
    fn a_purchase_is_read_alike_at_once_and_by_hand() {
        for body in [
            order(ITEM),
            order(
                r#"[{"quantity":1000,"sku":"a"},{"sku":"b","quantity":1,"unit_price_minor":4900}]"#,
            ),
            format!(" \n{}\t", order(ITEM)),
        ] {
            let at_once = parse(&body).expect("a purchase");
            let by_hand = body::parse_by_hand(body.as_bytes(), Purchase::examine);
            assert_eq!(by_hand.expect("a purchase"), at_once);
        }
    }

    #[test]
    fn a_body_that_is_no_json_text_at_all_is_called_what_it_is() {
        let right = order(ITEM);
        refused("", "malformed", "the body is empty");
        refused(" \r\n\t", "malformed", "the body is empty");
        refused("{", "malformed", "is cut off");
        refused(&right[..30], "malformed", "is cut off");
        refused("[".repeat(10_000), "malformed", "is cut off");
        refused(format!("\u{feff}{right}"), "malformed", "byte order mark");
        refused(b"\x1f\x8b\x08\0", "malformed", "compressed with gzip");
        refused(b"\xff\xfe{\0}\0", "malformed", "is UTF-16: send UTF-8");
        refused(
            b"{\"customer_id\":\"\xff\",\"items\":[]}",
            "malformed",
            "is not UTF-8: byte 17",
        );
        refused("<order/>", "malformed", "send JSON");
        refused("%7B%22customer_id%22", "malformed", "percent-encoded");
    }

    #[test]
    fn what_is_not_json_is_malformed_and_says_what_to_change() {
        let right = order(ITEM);
        let with = |from: &str, to: &str| {
            assert!(right.contains(from));
            right.replace(from, to)
        };
        refused(
            "customer_id=c",
            "malformed",
            "customer_id is not a JSON value (at character 1)",
        );
        refused(
            with(":1}", ":NaN}"),
            "malformed",
            "NaN is not a JSON value (at character 59)",
        );
        refused(
            with(":1}", ":nope}"),
            "malformed",
            "nope is not a JSON value (at character 59)",
        );
        refused(
            with("1}", "1,}"),
            "malformed",
            "a comma stands before a closing bracket",
        );
        refused(
            with("}]", "},]"),
            "malformed",
            "a comma stands before a closing bracket",
        );
        refused(
            right.replace('"', "'"),
            "malformed",
            "double quotes, not single ones",
        );
        refused(
            with("\"c\"", "'c'"),
            "malformed",
            "double quotes, not single ones",
        );
        refused(
            with("\"customer_id\"", "customer_id"),
            "malformed",
            "a name needs double quotes",
        );
        refused(
            with("\",\"quantity", "\" \"quantity"),
            "malformed",
            "a comma or a closing bracket",
        );
        refused(
            with("quantity\":", "quantity\""),
            "malformed",
            "a colon is missing",
        );
        refused(
            with(":1}", ":01}"),
            "malformed",
            "not written as JSON writes it",
        );
        refused(
            with(":1}", ":1e999}"),
            "malformed",
            "larger than any number",
        );
        refused(with("chair", "ch\nair"), "malformed", "a control character");
        refused(with("chair", r"ch\air"), "malformed", "an unknown escape");
        refused(
            with("chair", r"\ud800"),
            "malformed",
            "an escape that is no character",
        );
        refused(
            format!("{right} x"),
            "malformed",
            "something follows its end",
        );
        refused(
            format!("{right}{right}"),
            "malformed",
            "something follows its end",
        );
        refused(
            format!("{{\n \"é\": {},\n}}", "x".repeat(1_000)),
            "malformed",
            &format!("{} is not a JSON value (at character 9)", "x".repeat(20)),
        );
    }

    #[test]
    fn what_is_not_an_object_is_called_what_it_is() {
        let stringified = serde_json::to_string(&order(ITEM)).expect("a string");
        refused(
            stringified,
            "invalid",
            "the body must be an object, and is a JSON string that holds JSON: send the object itself",
        );
        refused(
            "\"order\"",
            "invalid",
            "the body must be an object, and is a string",
        );
        refused(
            "[]",
            "invalid",
            "the body must be an object, and is an array",
        );
        refused(format!(r#"["c",{ITEM}]"#), "invalid", "is an array");
        refused("null", "invalid", "the body must be an object, and is null");
        refused(
            "7",
            "invalid",
            "the body must be an object, and is a number",
        );
        refused(
            order(r#"[["a",1]]"#),
            "invalid",
            "items[0]: must be an object, and is an array",
        );
        let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
        refused(&deep, "invalid", "nested too deeply");
        refused(order(&deep), "invalid", "nested too deeply");
    }

    #[test]
    fn a_field_that_is_wrong_is_named_and_told_what_it_must_be() {
        let item = |sku: &str, quantity: &str| {
            order(&format!(r#"[{{"sku":{sku},"quantity":{quantity}}}]"#))
        };
        refused(
            r#"{"items":[{"sku":"a","quantity":1}]}"#,
            "invalid",
            "customer_id: is missing",
        );
        refused(r#"{"customer_id":"c"}"#, "invalid", "items: is missing");
        refused(
            r#"{"customer_id":"","items":[]}"#,
            "invalid",
            "customer_id: must be 1 to 128",
        );
        refused(
            r#"{"customer_id":"c","customer_id":"d"}"#,
            "invalid",
            "customer_id: is given twice",
        );
        refused(
            order(&ITEM.replace('}', r#","price":1}"#)),
            "invalid",
            "items[0].price: is not known: the members are sku, quantity, unit_price_minor",
        );
        refused(order("[]"), "invalid", "items: must hold 1 to 20");
        refused(
            order("{}"),
            "invalid",
            "items: must be an array, and is an object",
        );
        refused(
            item("\"a b\"", "1"),
            "invalid",
            "items[0].sku: must be 1 to 64",
        );
        refused(
            item("\"a\"", "0"),
            "invalid",
            "items[0].quantity: must be 1 to 1000",
        );
        refused(
            item("\"a\"", "1.5"),
            "invalid",
            "items[0].quantity: must be a whole number, written",
        );
        refused(
            item("\"a\"", "\"1\""),
            "invalid",
            "items[0].quantity: must be a number, and is a string: leave out the quotes",
        );
        refused(
            item("\"a\"", "1,\"unit_price_minor\":49.9"),
            "invalid",
            "items[0].unit_price_minor: must be a whole number of the currency's smallest unit",
        );
        refused(
            item("7", "1"),
            "invalid",
            "items[0].sku: must be a string, and is a number",
        );
        refused(
            order(r#"[{"sku":"a","quantity":1},{"sku":"a","quantity":1}]"#),
            "invalid",
            "items[1].sku: must not name a sku twice",
        );
    }

    #[test]
    fn a_customer_who_is_known_need_not_say_who_it_is() {
        let itself = CustomerId::try_from("c-1").expect("a name");
        let by_hand = |body: &str| {
            let own = body::parse_by_hand(body.as_bytes(), OwnPurchase::examine);
            own.map(|own| own.customer_id)
        };
        let read = |body: &str| Purchase::read(body.as_bytes(), Some(&itself));
        for body in [
            format!(r#"{{"items":{ITEM}}}"#),
            format!(r#"{{"customer_id":null,"items":{ITEM}}}"#),
        ] {
            assert_eq!(by_hand(&body).expect("a purchase"), None);
            assert_eq!(read(&body).expect("a purchase").customer_id, itself);
            refused(&body, "invalid", "customer_id");
        }
        let named = by_hand(&order(ITEM)).expect("a purchase");
        assert_eq!(named.expect("a customer").as_str(), "c");
        let named = read(&order(ITEM)).expect("a purchase").customer_id;
        assert_eq!(named.as_str(), "c");
        let nobody = format!(r#"{{"customer_id":"","items":{ITEM}}}"#);
        assert!(read(&nobody).is_err() && by_hand(&nobody).is_err());
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let body = r#"{"customer_id":7,"note":"","items":[{"sku":"","quantity":0},{"sku":"b"},4,{"sku":"b","quantity":"2"}]}"#;
        let Err(Problem::InvalidBody(faults)) = parse(body) else {
            panic!("must be refused");
        };
        let errors = serde_json::to_value(&faults).expect("errors");
        let errors = errors.as_array().expect("a list");
        let pointers: Vec<_> = errors
            .iter()
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        assert_eq!(
            pointers,
            [
                "/note",
                "/customer_id",
                "/items/0/sku",
                "/items/0/quantity",
                "/items/1/quantity",
                "/items/2",
                "/items/3/sku",
                "/items/3/quantity",
            ]
        );
        assert!(
            faults.to_string().ends_with("(and 7 more: see errors)"),
            "{faults}"
        );
    }
}
