//! The payment provider: it takes every payment, and tells Hotrow, with the shop's token, as a provider's webhook would.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Room, refusal::Refusal};

/// How long it waits for the order to be paid, in seconds.
const WAIT: u32 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payment {
    order_id: Uuid,
    amount_minor: i64,
    currency: String,
}

/// Confirms an order, and passes on what Hotrow says to that. The same payment again is the same payment.
pub(super) async fn pay(
    State(room): State<Arc<Room>>,
    Json(payment): Json<Payment>,
) -> Result<Response, Refusal> {
    let open = room.open()?;
    let _place = open.asking.try_acquire().map_err(|_| Refusal::TooMany)?;
    let Payment {
        order_id,
        amount_minor,
        currency,
    } = payment;
    let bearer = format!("Bearer {}", open.issuer.token("the-shop", "shop"));
    let body = json!({
        // One that was of a wrong amount never pays, so the right amount is another payment.
        "payment_reference": format!("window-{}-{amount_minor}", order_id.simple()),
        "amount_minor": amount_minor,
        "currency": currency,
    });
    let path = format!("/v1/orders/{order_id}/confirm?wait={WAIT}");
    let headers = [("authorization", bearer.as_str())];
    let confirmed = open.door.send(Method::POST, &path, &headers, Some(body));
    let answer = confirmed.await.map_err(|error| {
        Refusal::Unavailable(format!(
            "the payment is not told, because Hotrow does not answer: {error}"
        ))
    })?;
    let mut response = (answer.status, answer.body).into_response();
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        let value = answer.headers.get(&name).cloned();
        response
            .headers_mut()
            .extend(value.map(|value| (name, value)));
    }
    Ok(response)
}
