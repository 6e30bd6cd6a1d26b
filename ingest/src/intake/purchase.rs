//! The body of a purchase, as a type that only a valid one can have.

use hotrow_shared::order::{CustomerId, Items};
use serde::Deserialize;

/// What a customer asks for.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purchase {
    /// Who.
    pub(crate) customer_id: CustomerId,
    /// What.
    pub(crate) items: Items,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{body, problem::Problem};

    fn parse(text: impl AsRef<[u8]>) -> Result<(), (&'static str, String)> {
        body::parse::<Purchase>(text.as_ref())
            .map(|_| ())
            .map_err(|problem: Problem| (problem.code(), problem.to_string()))
    }

    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, code: &str, detail: &str) {
        let (found, sentence) = parse(&text).expect_err("must be refused");
        assert_eq!(found, code, "{sentence}");
        assert!(
            sentence.contains(detail),
            "{sentence:?} should name {detail:?}"
        );
    }

    #[test]
    fn a_purchase_is_read() {
        assert_eq!(
            parse(r#"{"customer_id":"c-42","items":[{"sku":"chair-123","quantity":1}]}"#),
            Ok(())
        );
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        refused("", "malformed", "EOF");
        refused("{", "malformed", "EOF");
        refused(r#"{"customer_id":1,"#, "malformed", "EOF");
        refused(
            r#"{"customer_id":"c","items":[{"sku":"a","quantity":NaN}]}"#,
            "malformed",
            "line 1",
        );
        refused("[".repeat(10_000), "malformed", "EOF");
        refused(
            b"{\"customer_id\":\"\xff\",\"items\":[]}",
            "malformed",
            "utf-8",
        );
        refused(
            r#"{"customer_id":"c","items":[{"sku":"a","quantity":1}]} x"#,
            "malformed",
            "trailing",
        );
    }

    #[test]
    fn json_of_another_shape_is_invalid_and_the_field_is_named() {
        let order = |items: &str| format!(r#"{{"customer_id":"c","items":{items}}}"#);
        refused("[]", "invalid", "invalid length 0");
        refused("7", "invalid", "invalid type");
        refused(
            r#"{"items":[{"sku":"a","quantity":1}]}"#,
            "invalid",
            "customer_id",
        );
        refused(
            format!("{}{}", "[".repeat(8_000), "]".repeat(8_000)),
            "invalid",
            "invalid type",
        );
        refused(r#"{"customer_id":"c"}"#, "invalid", "items");
        refused(
            r#"{"customer_id":"","items":[]}"#,
            "invalid",
            "customer_id: must be 1 to 128",
        );
        refused(
            r#"{"customer_id":"c","customer_id":"d"}"#,
            "invalid",
            "duplicate field `customer_id`",
        );
        refused(
            r#"{"customer_id":"c","price":1}"#,
            "invalid",
            "price: unknown field `price`",
        );
        refused(order("[]"), "invalid", "items: must hold 1 to 20");
        refused(
            order(r#"[{"sku":"a b","quantity":1}]"#),
            "invalid",
            "items[0].sku: must be 1 to 64",
        );
        refused(
            order(r#"[{"sku":"a","quantity":0}]"#),
            "invalid",
            "items[0].quantity: must be 1 to 1000",
        );
        refused(
            order(r#"[{"sku":"a","quantity":1.5}]"#),
            "invalid",
            "items[0].quantity: invalid type",
        );
        refused(
            order(r#"[{"sku":"a","quantity":"1"}]"#),
            "invalid",
            "items[0].quantity: invalid type",
        );
        refused(
            order(r#"[{"sku":"a","quantity":1},{"sku":"a","quantity":1}]"#),
            "invalid",
            "items: must not name a sku twice",
        );
    }
}
