//! `POST /v1/payments/stripe`.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    Refused, StripeDesk,
    event::Meaning,
    signature::{BadSignature, Signature},
};
use crate::http::{
    NO_STORE,
    body::{self, BODY_MAX},
    problem::Problem,
    query,
};

/// The largest event, in bytes: one may be larger than any other body.
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What was done with an event, for people who look at its delivery in Stripe's dashboard.
#[derive(Serialize)]
struct Done {
    outcome: &'static str,
}

/// `POST /v1/payments/stripe`: Stripe delivers an event. 200 says that it need not come again.
///
/// # Errors
/// 400 for what Stripe did not sign with the secret, and what cannot be read; 503 for an order that is not settled
/// yet, and where the command or the payment cannot be queued or noted, so that Stripe delivers the event again.
pub(crate) async fn receive(
    State(desk): State<Arc<StripeDesk>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut head, content) = request.into_parts();
    query::refuse(&head.uri)?;
    let meaning = read(&desk, &head.headers, content).await;
    let request_id = head.extensions.remove();
    // It holds the connection's buffer, and the broker may take its time.
    drop(head);
    let followed = match meaning {
        Ok(meaning) => desk.follow(meaning, request_id).await,
        Err(refused) => Err(refused),
    };
    let outcome = desk.counted(followed)?.as_str();
    Ok(([NO_STORE], Json(Done { outcome })).into_response())
}

/// Reads the event of a request. What is wrong with the header alone is said before the body is read.
async fn read(desk: &StripeDesk, headers: &HeaderMap, content: Body) -> Result<Meaning, Refused> {
    let signature = Signature::read(signed(headers)?, desk.changes.clock.clock.now_ms())?;
    let size_max = content.size_hint().upper();
    let is_small = size_max.is_some_and(|size| size <= BODY_MAX as u64);
    let _place = if is_small {
        None
    } else {
        let place = desk.room.try_acquire();
        Some(place.map_err(|_| Refused::overloaded())?)
    };
    let body = body::read_up_to(EVENT_BYTES_MAX, headers, content).await?;
    desk.read(&signature, &body)
}

fn signed(headers: &HeaderMap) -> Result<&str, BadSignature> {
    let mut values = headers.get_all("stripe-signature").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(BadSignature::Unreadable);
    };
    value.to_str().map_err(|_| BadSignature::Unreadable)
}
