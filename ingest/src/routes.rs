//! The routes: the one table from which the router and the labels of the metrics come.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, Method, header},
    middleware,
    routing::{MethodRouter, get, post, put},
};
use hotrow_shared::telemetry::{Readiness, probes};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    http::{
        access_log::AccessLog,
        observe::{CountedRoute, Observer, REQUEST_ID, observe},
        problem::Problem,
    },
    intake::{self, Intake},
    inventory::{self, InventoryDesk},
    settings::Origins,
    status::{self, StatusDesk},
};

/// One row of the table.
struct Route {
    path: &'static str,
    method: Method,
    /// The statuses that it is expected to answer. Each has its series from the start.
    answers: &'static [u16],
    handler: MethodRouter,
}

/// Every route but the probes, in the order in which people meet them.
fn table(
    intake: Arc<Intake>,
    status: &Arc<StatusDesk>,
    inventory: &Arc<InventoryDesk>,
) -> Vec<Route> {
    let status = || Arc::clone(status);
    let inventory = || Arc::clone(inventory);
    vec![
        Route {
            path: "/v1/orders",
            method: Method::POST,
            answers: &[202, 400, 408, 409, 413, 415, 422, 429, 503],
            handler: post(intake::handler::place).with_state(intake),
        },
        Route {
            path: "/v1/orders",
            method: Method::GET,
            answers: &[200, 400, 404, 422, 503],
            handler: get(status::handler::many).with_state(status()),
        },
        Route {
            path: "/v1/orders/{order_id}",
            method: Method::GET,
            answers: &[200, 400, 404, 503],
            handler: get(status::handler::one).with_state(status()),
        },
        Route {
            path: "/v1/inventory",
            method: Method::GET,
            answers: &[200, 400, 422, 503],
            handler: get(inventory::handler::page).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}",
            method: Method::GET,
            answers: &[200, 400, 404, 422, 503],
            handler: get(inventory::handler::show).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}",
            method: Method::PUT,
            answers: &[200, 201, 400, 401, 403, 422, 503],
            handler: put(inventory::handler::put).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}/restock",
            method: Method::POST,
            answers: &[200, 400, 401, 403, 404, 422, 503],
            handler: post(inventory::handler::restock).with_state(inventory()),
        },
    ]
}

/// The probes, which both processes have and serve in the same way.
const PROBES: [CountedRoute; 2] = [
    ("/livez", Method::GET, &[200]),
    ("/readyz", Method::GET, &[200, 503]),
];

/// The service that answers clients.
pub(crate) fn router(
    intake: Arc<Intake>,
    status: &Arc<StatusDesk>,
    inventory: &Arc<InventoryDesk>,
    readiness: &Arc<Readiness>,
    origins: &Origins,
    log: AccessLog,
) -> Router {
    let mut routes = probes(readiness);
    let mut counted = PROBES.to_vec();
    for route in table(intake, status, inventory) {
        routes = routes.route(route.path, route.handler);
        counted.push((route.path, route.method, route.answers));
    }
    let routes = routes
        .fallback(async || Problem::NotFound("there is no such path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed);
    // Every answer passes these two, so that a browser can read refusals, too; the limits are
    // further in, so that a preflight never counts.
    let routes = match cors(origins) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    let observer = Arc::new(Observer::new(counted, log));
    routes.layer(middleware::from_fn_with_state(observer, observe))
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
