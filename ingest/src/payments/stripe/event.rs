//! An event of Stripe: what of it concerns an order.
//!
//! Only the members that are used are read, because Stripe adds others at any time.

use std::borrow::Cow;

use hotrow_shared::change::{
    Ask, EXTENDED_HOLD_SECONDS_MAX, Extension, Payment, is_payment_reference,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::outcome::Outcome;

/// The longest name of a currency, in characters. Orders have three letters; Stripe also knows longer ones.
const CURRENCY_LENGTH_MAX: usize = 16;

/// What an event asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing, for this reason.
    Nothing(Outcome),
    /// A change of the order with this name, which may be anything that the shop wrote.
    Change { order: String, ask: Ask },
}

/// Why a signed event cannot be followed. The text names no value of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event cannot be read: {0}")]
pub(super) struct NotAnEvent(&'static str);

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    livemode: bool,
    /// Has another shape with every type.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data {
    object: Intent,
}

/// A `PaymentIntent`.
#[derive(Deserialize)]
struct Intent {
    id: String,
    amount_received: Option<i64>,
    amount_capturable: Option<i64>,
    currency: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    order_id: Option<String>,
}

/// The types that concern orders.
#[derive(Clone, Copy)]
enum Kind {
    /// The money is there.
    Succeeded,
    /// The money is reserved for the shop, which may take it.
    Capturable,
    /// The buyer has done everything, and the bank takes its time.
    Processing,
}

/// The name that Stripe's dashboard shows of an event, if there is one that can be logged.
pub(super) fn name(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let named = serde_json::from_slice::<Named>(body).ok()?;
    is_payment_reference(&named.id).then_some(named.id)
}

/// Reads an event for a shop that is live or not.
///
/// # Errors
/// It is not JSON of an event, or it says of a payment less than is needed.
pub(super) fn read(body: &[u8], is_live: bool) -> Result<Meaning, NotAnEvent> {
    let event: Event<'_> = serde_json::from_slice(body)
        .map_err(|_| NotAnEvent("it must be JSON with type and livemode"))?;
    if event.livemode != is_live {
        return Ok(Meaning::Nothing(Outcome::OtherMode));
    }
    let kind = match &*event.r#type {
        "payment_intent.succeeded" => Kind::Succeeded,
        "payment_intent.amount_capturable_updated" => Kind::Capturable,
        "payment_intent.processing" => Kind::Processing,
        _ => return Ok(Meaning::Nothing(Outcome::Ignored)),
    };
    let data = event.data.map_or("null", RawValue::get);
    let Data { object: intent } = serde_json::from_str(data)
        .map_err(|_| NotAnEvent("data.object must be a PaymentIntent"))?;
    let order = intent.metadata.as_ref().and_then(|it| it.order_id.clone());
    let Some(order) = order.filter(|name| !name.is_empty()) else {
        return Ok(Meaning::Nothing(Outcome::NoOrder));
    };
    let ask = match kind {
        Kind::Succeeded => Ask::Confirm(payment(&intent, intent.amount_received)?),
        Kind::Capturable => Ask::Confirm(payment(&intent, intent.amount_capturable)?),
        // The worker cuts it to what the product allows.
        Kind::Processing => Ask::Extend(Extension {
            seconds: EXTENDED_HOLD_SECONDS_MAX,
        }),
    };
    Ok(Meaning::Change { order, ask })
}

/// The payment with its amount and currency, so that settling compares them with the order's total.
fn payment(intent: &Intent, amount: Option<i64>) -> Result<Payment, NotAnEvent> {
    if !is_payment_reference(&intent.id) {
        return Err(NotAnEvent(
            "data.object.id must be 1 to 255 visible ASCII characters",
        ));
    }
    let amount = amount.filter(|amount| *amount >= 0);
    let amount = amount.ok_or(NotAnEvent(
        "data.object must have its amount as a whole number",
    ))?;
    let is_currency = |text: &&String| {
        let is_visible = text.bytes().all(|b| b.is_ascii_graphic());
        is_visible && (1..=CURRENCY_LENGTH_MAX).contains(&text.len())
    };
    let currency = intent.currency.as_ref().filter(is_currency);
    let currency = currency.ok_or(NotAnEvent("data.object.currency must be a currency"))?;
    Ok(Payment {
        reference: intent.id.clone(),
        amount_minor: Some(amount),
        // Stripe writes it in lower case.
        currency: Some(currency.to_ascii_uppercase()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(r#type: &str, object: &Value) -> Value {
        json!({
            "id": "evt_1", "object": "event", "api_version": "2025-09-30", "created": 1_760_000_000, "livemode": true,
            "type": r#type, "data": { "object": object }, "request": { "id": null }, "pending_webhooks": 1,
        })
    }

    fn intent() -> Value {
        json!({
            "id": "pi_1", "object": "payment_intent", "amount": 4_900, "amount_capturable": 0, "amount_received": 4_900,
            "currency": "eur", "livemode": true, "metadata": { "order_id": "o-1", "cart": "7" }, "status": "succeeded",
        })
    }

    fn with(member: &str, value: Value) -> Value {
        let mut intent = intent();
        intent[member] = value;
        intent
    }

    #[track_caller]
    fn meaning(r#type: &str, object: &Value) -> Meaning {
        read(event(r#type, object).to_string().as_bytes(), true).expect("an event")
    }

    fn pays(amount: i64, currency: &str) -> Meaning {
        Meaning::Change {
            order: "o-1".to_owned(),
            ask: Ask::Confirm(Payment {
                reference: "pi_1".to_owned(),
                amount_minor: Some(amount),
                currency: Some(currency.to_owned()),
            }),
        }
    }

    #[test]
    fn a_payment_has_the_amount_of_its_type_and_the_currency_in_capitals() {
        let succeeded = "payment_intent.succeeded";
        let capturable = "payment_intent.amount_capturable_updated";
        assert_eq!(meaning(succeeded, &intent()), pays(4_900, "EUR"));
        assert_eq!(
            meaning(succeeded, &with("amount_received", json!(0))),
            pays(0, "EUR")
        );
        let object = with("amount_capturable", json!(1_200));
        assert_eq!(meaning(capturable, &object), pays(1_200, "EUR"));
        // It can pay no order, and must not be lost.
        let object = with("currency", json!("usdc"));
        assert_eq!(meaning(succeeded, &object), pays(4_900, "USDC"));
    }

    #[test]
    fn what_is_being_processed_is_held_for_as_long_as_may_be() {
        let longest = Meaning::Change {
            order: "o-1".to_owned(),
            ask: Ask::Extend(Extension { seconds: 604_800 }),
        };
        assert_eq!(meaning("payment_intent.processing", &intent()), longest);
    }

    #[test]
    fn what_names_no_order_and_what_is_of_another_type_or_mode_means_nothing() {
        let no_order = Meaning::Nothing(Outcome::NoOrder);
        for metadata in [
            json!({}),
            json!(null),
            json!({"order_id": ""}),
            json!({"x": "y"}),
        ] {
            let object = with("metadata", metadata);
            assert_eq!(meaning("payment_intent.succeeded", &object), no_order);
        }
        let ignored = Meaning::Nothing(Outcome::Ignored);
        for r#type in [
            "payment_intent.canceled",
            "payment_intent.payment_failed",
            "charge.succeeded",
            "",
        ] {
            assert_eq!(meaning(r#type, &intent()), ignored, "{type}");
            assert_eq!(meaning(r#type, &json!([])), ignored, "{type}");
        }
        let thin = br#"{"type":"v1.billing.meter.no_meter_found","livemode":true}"#;
        assert_eq!(read(thin, true), Ok(ignored));
        for r#type in ["payment_intent.succeeded", "charge.succeeded"] {
            let body = event(r#type, &intent()).to_string();
            let other = Ok(Meaning::Nothing(Outcome::OtherMode));
            assert_eq!(read(body.as_bytes(), false), other);
        }
    }

    #[test]
    fn an_event_that_says_too_little_of_a_payment_is_refused_without_a_word_of_it() {
        let wrong = [
            with("id", json!("")),
            with("id", json!("pi 1")),
            with("id", json!("p".repeat(256))),
            with("id", json!(1)),
            with("amount_received", json!(null)),
            with("amount_received", json!(-1)),
            with("amount_received", json!(49.5)),
            with("amount_received", json!("4900")),
            with("currency", json!(null)),
            with("currency", json!("")),
            with("currency", json!("a".repeat(17))),
            with("metadata", json!({"order_id": 7})),
            json!(null),
        ];
        for object in wrong {
            let body = event("payment_intent.succeeded", &object).to_string();
            let refused = read(body.as_bytes(), true).map_err(|why| why.to_string());
            let why = refused.expect_err(&body);
            assert!(!why.contains("4900") && !why.contains("pi 1"), "{why}");
        }
        for body in [&b""[..], b"{", b"[]", b"{}", br#"{"type":"x"}"#, b"\xff"] {
            assert!(read(body, true).is_err());
        }
    }
}
