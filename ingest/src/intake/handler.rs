//! `POST /v1/orders`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hotrow_shared::{id::IdempotencyKey, order::Items, request_id::RequestId};

use super::{
    Accepted, Intake,
    buyer::Buyer,
    purchase::{OwnPurchase, Purchase},
    receipt::Receipt,
};
use crate::{
    auth::Caller,
    description::parameters::KeyHeader,
    http::{body, peer::Peer, problem::Problem, query, status_url, whole_seconds},
};

/// Takes a purchase; 202 means that the broker has it safely.
///
/// # Errors
/// Every refusal of the contract, each counted by its code.
#[utoipa::path(
    post,
    path = "/v1/orders",
    operation_id = "placeOrder",
    tag = "orders",
    summary = "Place an order",
    description = "202 means that the order is in a queue and on the broker's disk. It says nothing about the stock: ask for the order to see what becomes of it. The same `Idempotency-Key` of the same customer takes effect once.",
    params(KeyHeader),
    request_body(content = OwnPurchase, examples(("One chair" = (value = json!({"customer_id": "c-42", "items": [{"sku": "chair-123", "quantity": 1}]}))))),
    responses((status = 202, description = "The order is queued.", body = Receipt, headers(("Location"), ("Retry-After")))),
)]
pub(crate) async fn place(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    match receive(&intake, &caller, peer, request).await {
        Ok(accepted) => {
            intake.metrics.accepted.increment(1);
            Ok(accepted_answer(&accepted))
        }
        Err(problem) => {
            intake.metrics.refused(problem.code());
            Err(problem)
        }
    }
}

async fn receive(
    intake: &Intake,
    caller: &Caller,
    peer: Peer,
    request: Request,
) -> Result<Accepted, Problem> {
    let Received {
        buyer,
        items,
        key,
        request_id,
    } = read(intake, caller, peer, request).await?;
    let logged = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| request_id.clone())
        .flatten();
    let accepted = intake.accept(buyer, items, key, request_id).await?;
    if let Some(request_id) = logged {
        tracing::debug!(%request_id, order_id = %accepted.id, "an order is accepted");
    }
    Ok(accepted)
}

/// A purchase that could be read, and what came with it.
struct Received {
    buyer: Buyer,
    items: Items,
    key: Option<IdempotencyKey>,
    request_id: Option<RequestId>,
}

/// Reads a purchase and its idempotency key. By consuming the request it gives the connection's buffer
/// back before the wait for the broker, which is most of an order's time here.
async fn read(
    intake: &Intake,
    caller: &Caller,
    peer: Peer,
    request: Request,
) -> Result<Received, Problem> {
    let (mut head, content) = request.into_parts();
    let request_id = head.extensions.remove();
    intake.admit(intake.proxies.client(peer, &head.headers))?;
    query::refuse(&head.uri)?;
    let content = body::read(&head.headers, content).await?;
    let key = body::idempotency_key(&head.headers)?;
    let Purchase { customer_id, items } = Purchase::read(&content, caller.customer())?;
    Ok(Received {
        buyer: Buyer::of(caller, customer_id, intake.has_tokens)?,
        items,
        key,
        request_id,
    })
}

fn accepted_answer(accepted: &Accepted) -> Response {
    let Accepted { id, wait } = accepted;
    let status_url = status_url(*id);
    let receipt = Receipt::new(*id, &status_url, *wait);
    let mut response = (StatusCode::ACCEPTED, Json(receipt)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, whole_seconds(*wait).into());
    if let Ok(location) = HeaderValue::try_from(status_url) {
        headers.insert(header::LOCATION, location);
    }
    response
}
