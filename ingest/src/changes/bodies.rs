//! The bodies of commands: what may be asked of a settled order.

use hotrow_shared::{
    change::{
        Ask, Cancellation, EXTENSION_SECONDS_MAX, Extension, PAYMENT_REFERENCE_LENGTH_MAX, Payment,
        is_payment_reference,
    },
    order::{OutOfBounds, Sku},
};

use utoipa::ToSchema;

use crate::http::json::{Faults, Place, Value};

/// A payment for an order.
#[derive(ToSchema)]
#[schema(as = ConfirmBody)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
pub(super) struct Confirmation {
    /// The payment provider's name for the payment: visible ASCII.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    payment_reference: String,
    /// What was paid, in the currency's smallest unit; checked if it is given.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991i64)]
    amount_minor: Option<i64>,
    /// ISO 4217; checked if it is given.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: Option<String>,
}

/// Why an order is given up, and what becomes of its goods.
#[derive(ToSchema)]
#[schema(as = CancelBody)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
pub(super) struct CancellationBody {
    /// The shop's own word for why.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._:@-]+$")]
    reason: Option<String>,
    /// Whether the goods of a confirmed order go back into the stock. Held goods always do.
    #[schema(default = true)]
    restock: Option<bool>,
}

/// For how long goods are to be held.
#[derive(ToSchema)]
#[schema(as = ExtendBody)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
pub(super) struct ExtensionBody {
    /// For how long the goods are to be held from now on.
    #[schema(minimum = 1, maximum = 86_400)]
    seconds: u32,
}

/// The largest amount of a payment, in the currency's smallest unit: JavaScript holds it exactly.
const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// Reads a payment, and notes everything that keeps it from being one.
pub(super) fn examine_confirm(body: &Value, faults: &mut Faults) -> Option<Ask> {
    let names = ["payment_reference", "amount_minor", "currency"];
    let places = names.map(|name| Place::Member(&Place::Body, name));
    let [reference, amount, currency] = faults.optional_members(&Place::Body, body, names)?;
    if reference.is_none() {
        faults.add(&places[0], "is missing");
    }
    let reference = reference.and_then(|value| examine_reference(&places[0], value, faults));
    let amount_minor =
        given(amount).and_then(|value| faults.integer(&places[1], value, 0..=AMOUNT_MAX));
    let currency = given(currency).and_then(|value| faults.currency(&places[2], value));
    Some(Ask::Confirm(Payment {
        reference: reference?,
        amount_minor,
        currency: currency.map(str::to_owned),
    }))
}

/// Reads a cancellation, and notes everything that keeps it from being one.
pub(super) fn examine_cancel(body: &Value, faults: &mut Faults) -> Option<Ask> {
    let names = ["reason", "restock"];
    let places = names.map(|name| Place::Member(&Place::Body, name));
    let [reason, restock] = faults.optional_members(&Place::Body, body, names)?;
    let reason = given(reason).and_then(|value| examine_reason(&places[0], value, faults));
    let restock = given(restock).map_or(Some(true), |value| faults.boolean(&places[1], value));
    Some(Ask::Cancel(Cancellation {
        reason,
        restock: restock?,
    }))
}

/// Reads an extension, and notes everything that keeps it from being one.
pub(super) fn examine_extend(body: &Value, faults: &mut Faults) -> Option<Ask> {
    let [seconds] = faults.members(&Place::Body, body, ["seconds"])?;
    let place = Place::Member(&Place::Body, "seconds");
    let seconds = faults.integer(&place, seconds?, 1..=i64::from(EXTENSION_SECONDS_MAX))?;
    Some(Ask::Extend(Extension {
        seconds: u32::try_from(seconds).ok()?,
    }))
}

/// A member that may be left out may be null, too.
fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !matches!(value, Value::Null))
}

fn examine_reference(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<String> {
    let detail =
        format_args!("must be 1 to {PAYMENT_REFERENCE_LENGTH_MAX} visible ASCII characters");
    let reference = faults.fitting_text(place, value, is_payment_reference, detail)?;
    Some(reference.to_owned())
}

/// A reason is a name of the same length and alphabet as a SKU.
fn examine_reason(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<String> {
    let fits = |text: &str| Sku::try_from(text).is_ok();
    let reason = faults.fitting_text(place, value, fits, OutOfBounds::Sku)?;
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    type Examine = fn(&Value, &mut Faults) -> Option<Ask>;

    #[track_caller]
    fn read(examine: Examine, text: &str) -> Ask {
        body::parse_by_hand(text.as_bytes(), examine).expect("a command")
    }

    #[track_caller]
    fn refused(examine: Examine, text: &str, details: &[&str]) {
        let body = serde_json::from_str(text).expect("JSON");
        let mut faults = Faults::default();
        examine(&body, &mut faults);
        let faults = serde_json::to_string(&faults).expect("errors");
        for detail in details {
            assert!(faults.contains(detail), "{faults} should say {detail:?}");
        }
        assert!(body::parse_by_hand(text.as_bytes(), examine).is_err());
    }

    #[test]
    fn a_payment_needs_a_reference_and_no_more() {
        let payment = |reference: &str, amount_minor, currency: Option<&str>| {
            Ask::Confirm(Payment {
                reference: reference.to_owned(),
                amount_minor,
                currency: currency.map(str::to_owned),
            })
        };
        let text = r#"{"payment_reference":"pi_3Q"}"#;
        assert_eq!(read(examine_confirm, text), payment("pi_3Q", None, None));
        let text = r#"{"payment_reference":"a","amount_minor":null,"currency":null}"#;
        assert_eq!(read(examine_confirm, text), payment("a", None, None));
        let text = r#"{"payment_reference":"a","amount_minor":0,"currency":"EUR"}"#;
        assert_eq!(
            read(examine_confirm, text),
            payment("a", Some(0), Some("EUR"))
        );
    }

    #[test]
    fn everything_that_is_wrong_with_a_payment_is_said_at_once() {
        let text =
            r#"{"payment_reference":"two words","amount_minor":-1,"currency":"eur","more":1}"#;
        let details = [
            "/more",
            "/payment_reference",
            "visible ASCII",
            "/amount_minor",
            "/currency",
        ];
        refused(examine_confirm, text, &details);
        refused(examine_confirm, "{}", &["/payment_reference", "is missing"]);
        refused(examine_confirm, "[]", &["must be an object"]);
        let long = format!(r#"{{"payment_reference":"{}"}}"#, "x".repeat(256));
        refused(examine_confirm, &long, &["1 to 255"]);
        let null = r#"{"payment_reference":null,"amount_minor":1.5}"#;
        refused(examine_confirm, null, &["is null", "whole number"]);
    }

    #[test]
    fn a_cancellation_needs_nothing_and_restocks_unless_it_says_otherwise() {
        let cancellation = |reason: Option<&str>, restock| {
            Ask::Cancel(Cancellation {
                reason: reason.map(str::to_owned),
                restock,
            })
        };
        assert_eq!(read(examine_cancel, "{}"), cancellation(None, true));
        let text = r#"{"reason":"fraud:7","restock":false}"#;
        assert_eq!(
            read(examine_cancel, text),
            cancellation(Some("fraud:7"), false)
        );
        let text = r#"{"reason":"no good","restock":"no"}"#;
        refused(examine_cancel, text, &["1 to 64", "must be true or false"]);
    }

    #[test]
    fn an_extension_is_a_second_to_a_day() {
        for seconds in [1, 86_400] {
            let text = format!(r#"{{"seconds":{seconds}}}"#);
            assert_eq!(
                read(examine_extend, &text),
                Ask::Extend(Extension { seconds })
            );
        }
        for text in [r#"{"seconds":0}"#, r#"{"seconds":86401}"#] {
            refused(examine_extend, text, &["must be 1 to 86400"]);
        }
        refused(examine_extend, "{}", &["is missing"]);
    }
}
