//! The routes.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, Method, header},
    middleware,
    routing::{get, post},
};
use hotrow_shared::telemetry::{Readiness, probes};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    observe::{REQUEST_ID, observe},
    problem::Problem,
};
use crate::{
    intake::{self, Intake},
    inventory::{self, InventoryDesk},
    metrics::HttpMetrics,
    settings::Origins,
    status::{self, StatusDesk},
};

/// A route as it is counted: its path, its method, and the answers that it is expected to give.
pub type CountedRoute = (&'static str, Method, &'static [u16]);

/// What is none of the routes below is counted as this.
pub const UNMATCHED: &str = "unmatched";

/// Every route that is counted under its own name.
pub const ROUTES: [CountedRoute; 10] = [
    (
        "/v1/orders",
        Method::POST,
        &[202, 400, 408, 409, 413, 415, 422, 429, 503],
    ),
    ("/v1/orders", Method::GET, &[200, 404, 422, 503]),
    ("/v1/orders/{order_id}", Method::GET, &[200, 404, 503]),
    ("/v1/inventory", Method::GET, &[200, 422, 503]),
    ("/v1/inventory/{sku}", Method::GET, &[200, 404, 422, 503]),
    (
        "/v1/inventory/{sku}",
        Method::PUT,
        &[200, 201, 400, 401, 403, 422, 503],
    ),
    (
        "/v1/inventory/{sku}/restock",
        Method::POST,
        &[200, 400, 401, 403, 404, 422, 503],
    ),
    ("/livez", Method::GET, &[200]),
    ("/readyz", Method::GET, &[200, 503]),
    (UNMATCHED, Method::GET, &[404]),
];

/// The service that answers clients.
pub fn router(
    intake: Arc<Intake>,
    status: Arc<StatusDesk>,
    inventory: Arc<InventoryDesk>,
    readiness: &Arc<Readiness>,
    metrics: Arc<HttpMetrics>,
    origins: &Origins,
) -> Router {
    let orders = Router::new()
        .route(
            "/v1/orders",
            post(intake::handler::place).with_state(intake),
        )
        .route(
            "/v1/orders",
            get(status::handler::many).with_state(Arc::clone(&status)),
        )
        .route(
            "/v1/orders/{order_id}",
            get(status::handler::one).with_state(status),
        );
    let inventory = Router::new()
        .route("/v1/inventory", get(inventory::handler::page))
        .route(
            "/v1/inventory/{sku}",
            get(inventory::handler::show).put(inventory::handler::put),
        )
        .route(
            "/v1/inventory/{sku}/restock",
            post(inventory::handler::restock),
        )
        .with_state(inventory);
    let routes = Router::new()
        .merge(orders)
        .merge(inventory)
        .merge(probes(readiness))
        .fallback(async || Problem::NotFound("there is no such path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed);
    // Every answer passes these two, so that a browser can read refusals, too; the limits are
    // further in, so that a preflight never counts.
    let routes = match cors(origins) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(middleware::from_fn_with_state(metrics, observe))
}

/// The headers that let pages of other origins call, if any may.
fn cors(origins: &Origins) -> Option<CorsLayer> {
    let header = HeaderName::from_static;
    let origins = match origins {
        Origins::These(origins) if origins.is_empty() => return None,
        Origins::Any => AllowOrigin::any(),
        Origins::These(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header("idempotency-key"),
            header("prefer"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::LOCATION,
            header::RETRY_AFTER,
            header("preference-applied"),
            header("ratelimit"),
            header("ratelimit-policy"),
            REQUEST_ID,
        ])
        .max_age(std::time::Duration::from_mins(10));
    Some(layer)
}
