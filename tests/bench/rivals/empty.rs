//! Handlers that do nothing: the ceiling of HTTP and JSON on this machine.

use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde::Serialize;

use super::Purchase;

const ORDER_ID: &str = "019a0b1c-2d3e-8f40-9152-637485960718";
const STATUS_URL: &str = "/v1/orders/019a0b1c-2d3e-8f40-9152-637485960718";
/// As long as a document of Hotrow's.
const DOCUMENT: &str = r#"{"order_id":"019a0b1c-2d3e-8f40-9152-637485960718","status":"confirmed","reason":null,"customer_id":"c-0000000000000042","items":[{"sku":"chair-123","quantity":1,"unit_price_minor":4990}],"total_minor":4990,"currency":"EUR","accepted_at":"2026-01-01T00:00:00.000Z","settled_at":"2026-01-01T00:00:00.012345Z"}"#;

#[derive(Serialize)]
struct Queued {
    order_id: &'static str,
    status: &'static str,
    status_url: &'static str,
    estimated_wait_ms: u32,
}

/// `POST /v1/orders` and `GET /v1/orders/{order_id}`, with the JSON and the headers of Hotrow's.
pub(super) fn router() -> Router {
    Router::new()
        .route("/v1/orders", post(accept))
        .route("/v1/orders/{order_id}", get(show))
}

async fn accept(Json(purchase): Json<Purchase>) -> impl IntoResponse {
    drop(purchase);
    let headers = [
        (header::RETRY_AFTER, HeaderValue::from_static("1")),
        (header::LOCATION, HeaderValue::from_static(STATUS_URL)),
    ];
    let body = Queued {
        order_id: ORDER_ID,
        status: "queued",
        status_url: STATUS_URL,
        estimated_wait_ms: 40,
    };
    (StatusCode::ACCEPTED, headers, Json(body))
}

async fn show() -> impl IntoResponse {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, DOCUMENT)
}
