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

/// Every route that is counted under its own name, with its methods.
pub const ROUTES: [(&str, &[Method]); 8] = [
    ("/v1/orders", &[Method::GET, Method::POST]),
    ("/v1/orders/{order_id}", &[Method::GET]),
    ("/v1/inventory", &[Method::GET]),
    ("/v1/inventory/{sku}", &[Method::GET, Method::PUT]),
    ("/v1/inventory/{sku}/restock", &[Method::POST]),
    ("/livez", &[Method::GET]),
    ("/readyz", &[Method::GET]),
    ("unmatched", &[Method::GET]),
];

/// The service that answers clients.
pub fn router(
    intake: Arc<Intake>,
    status: StatusDesk,
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
            get(status::handler::many).with_state(status.clone()),
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
    Router::new()
        .merge(orders)
        .merge(inventory)
        .merge(probes(readiness))
        .fallback(async || Problem::NotFound("there is no such path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        // Every answer of the service passes here, so that a browser can read refusals, too; limits
        // are further in, so that a preflight never counts.
        .layer(cors(origins))
        .layer(middleware::from_fn_with_state(metrics, observe))
}

fn cors(origins: &Origins) -> CorsLayer {
    let header = HeaderName::from_static;
    let origins = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::These(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
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
        .max_age(std::time::Duration::from_mins(10))
}
