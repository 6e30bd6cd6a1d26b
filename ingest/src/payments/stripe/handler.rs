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
use utoipa::{IntoParams, ToSchema};

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
#[derive(Serialize, ToSchema)]
#[schema(as = StripeEventDone)]
struct Done {
    /// Such as `confirm`, `extend`, `ignored` or `unknown_order`. Words may be added.
    outcome: &'static str,
}

/// What Stripe signs an event with.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
struct SignatureHeader {
    /// Stripe's scheme v1: `t=` and a time, and `v1=` and the signature.
    #[param(
        rename = "Stripe-Signature",
        example = "t=1795000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"
    )]
    signature: String,
}

/// `POST /v1/payments/stripe`: Stripe delivers an event. 200 says that it need not come again.
///
/// # Errors
/// 400 for what Stripe did not sign with the secret, and what cannot be read; 503 for an order that is not settled
/// yet, and where the command or the payment cannot be queued or noted, so that Stripe delivers the event again.
#[utoipa::path(
    post,
    path = "/v1/payments/stripe",
    operation_id = "receiveStripeEvent",
    tag = "payments",
    summary = "Receive an event of Stripe",
    description = "The webhook that is named in Stripe's dashboard. 200 says that the event need not come again; after any other answer Stripe delivers it again. Only there where Stripe is set up.",
    params(SignatureHeader),
    request_body(content = Object, description = "An event as Stripe sends it, of up to 262,144 bytes."),
    responses((status = 200, description = "What was done with the event.", body = Done, headers(("Cache-Control")), example = json!({"outcome": "confirm"}))),
)]
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
