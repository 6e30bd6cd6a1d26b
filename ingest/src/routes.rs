//! The routes: the one table from which the router and the labels of the metrics come.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, Method, header},
    middleware,
    routing::{MethodRouter, delete, get, patch, post, put},
};
use hotrow_shared::telemetry::{Readiness, probes};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    audit::{self, AuditDesk},
    auth::{Auth, Gate, Who},
    changes::{self, ChangesDesk},
    http::{
        access_log::AccessLog,
        observe::{CountedRoute, Observer, REQUEST_ID, observe},
        problem::Problem,
    },
    intake::{self, Intake},
    inventory::{self, InventoryDesk},
    limits::reads::{self, Reads},
    live::{self, LiveDesk},
    payments::{self, PaymentsDesk, stripe::StripeDesk},
    sale::{self, SaleDesk},
    settings::Origins,
    status::{self, StatusDesk},
    webhooks::{self, WebhooksDesk},
};

/// Who answers what is no purchase.
pub(crate) struct Desks {
    pub(crate) status: Arc<StatusDesk>,
    pub(crate) inventory: Arc<InventoryDesk>,
    pub(crate) changes: Arc<ChangesDesk>,
    pub(crate) payments: Arc<PaymentsDesk>,
    pub(crate) live: Arc<LiveDesk>,
    pub(crate) sale: Arc<SaleDesk>,
    pub(crate) audit: Arc<AuditDesk>,
    /// None where Stripe does not tell of payments: there is no such path then.
    pub(crate) stripe: Option<Arc<StripeDesk>>,
    /// None without events.
    pub(crate) webhooks: Option<Arc<WebhooksDesk>>,
}

/// One row of the table.
struct Route {
    path: &'static str,
    method: Method,
    /// Who may call. Its gate answers everybody else.
    who: Who,
    /// The statuses that the handler is expected to answer. Each has its series from the start, as have those of the gate.
    answers: &'static [u16],
    handler: MethodRouter,
}

/// The statuses of a command on a settled order.
const COMMAND_ANSWERS: &[u16] = &[200, 202, 400, 404, 409, 422, 503];

/// Every route but the probes, in the order in which people meet them.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, a few lines for each route"
)]
fn table(intake: Arc<Intake>, desks: &Desks) -> Vec<Route> {
    let status = || Arc::clone(&desks.status);
    let inventory = || Arc::clone(&desks.inventory);
    let changes = || Arc::clone(&desks.changes);
    let payments = || Arc::clone(&desks.payments);
    let stripe = desks.stripe.as_ref().map(|desk| Route {
        path: "/v1/payments/stripe",
        method: Method::POST,
        who: Who::Anybody,
        answers: &[200, 400, 408, 413, 415, 503],
        handler: post(payments::stripe::handler::receive).with_state(Arc::clone(desk)),
    });
    let mut table = vec![
        Route {
            path: "/v1/orders",
            method: Method::POST,
            who: Who::BUYERS,
            answers: &[202, 400, 408, 409, 413, 415, 422, 429, 503],
            handler: post(intake::handler::place).with_state(intake),
        },
        Route {
            path: "/v1/orders",
            method: Method::GET,
            who: Who::READERS,
            answers: &[200, 400, 404, 422, 503],
            handler: get(status::handler::many).with_state(status()),
        },
        Route {
            path: "/v1/orders/{order_id}",
            method: Method::GET,
            who: Who::READERS,
            answers: &[200, 304, 400, 404, 503],
            handler: get(status::handler::one).with_state(status()),
        },
        Route {
            path: "/v1/orders/{order_id}/changes",
            method: Method::GET,
            who: Who::PARTIES,
            answers: &[200, 400, 404, 409, 422, 503],
            handler: get(changes::handler::history).with_state(changes()),
        },
        Route {
            path: "/v1/orders/{order_id}/confirm",
            method: Method::POST,
            who: Who::SHOP,
            answers: COMMAND_ANSWERS,
            handler: post(changes::handler::confirm).with_state(changes()),
        },
        Route {
            path: "/v1/orders/{order_id}/cancel",
            method: Method::POST,
            who: Who::PARTIES,
            answers: COMMAND_ANSWERS,
            handler: post(changes::handler::cancel).with_state(changes()),
        },
        Route {
            path: "/v1/orders/{order_id}/extend",
            method: Method::POST,
            who: Who::STAFF,
            answers: COMMAND_ANSWERS,
            handler: post(changes::handler::extend).with_state(changes()),
        },
        Route {
            path: "/v1/payments/unmatched",
            method: Method::GET,
            who: Who::SHOP,
            answers: &[200, 400, 422, 503],
            handler: get(payments::handler::unmatched).with_state(payments()),
        },
        Route {
            path: "/v1/payments/unmatched/{id}/resolve",
            method: Method::POST,
            who: Who::SHOP,
            answers: &[200, 400, 404, 422, 503],
            handler: post(payments::handler::resolve).with_state(payments()),
        },
        Route {
            path: "/v1/inventory",
            method: Method::GET,
            who: Who::Anybody,
            answers: &[200, 400, 422, 503],
            handler: get(inventory::handler::page).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}",
            method: Method::GET,
            who: Who::Anybody,
            answers: &[200, 400, 404, 422, 503],
            handler: get(inventory::handler::show).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}",
            method: Method::PUT,
            who: Who::ADMINS,
            answers: &[200, 201, 400, 412, 422, 503],
            handler: put(inventory::handler::put).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}",
            method: Method::PATCH,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 412, 415, 422, 503],
            handler: patch(inventory::handler::patch).with_state(inventory()),
        },
        Route {
            path: "/v1/inventory/{sku}/restock",
            method: Method::POST,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 422, 503],
            handler: post(inventory::handler::restock).with_state(inventory()),
        },
        Route {
            path: "/v1/live",
            method: Method::GET,
            who: Who::Anybody,
            answers: &[200, 400, 404, 422, 503],
            handler: get(live::handler::listen_to).with_state(Arc::clone(&desks.live)),
        },
        Route {
            path: "/v1/sale",
            method: Method::GET,
            who: Who::Anybody,
            answers: &[200, 400, 503],
            handler: get(sale::handler::show).with_state(Arc::clone(&desks.sale)),
        },
        Route {
            path: "/v1/sale",
            method: Method::PUT,
            who: Who::ADMINS,
            answers: &[200, 400, 415, 422, 503],
            handler: put(sale::handler::turn).with_state(Arc::clone(&desks.sale)),
        },
        Route {
            path: "/v1/audit",
            method: Method::GET,
            who: Who::ADMINS,
            answers: &[200, 400, 422, 503],
            handler: get(audit::handler::page).with_state(Arc::clone(&desks.audit)),
        },
    ];
    table.extend(stripe);
    table
}

/// What administrators do with endpoints of webhooks. Without events there is no such path.
fn webhooks_table(desk: &Arc<WebhooksDesk>) -> Vec<Route> {
    let desk = || Arc::clone(desk);
    vec![
        Route {
            path: "/v1/webhooks",
            method: Method::POST,
            who: Who::ADMINS,
            answers: &[201, 400, 409, 415, 422, 503],
            handler: post(webhooks::handler::create).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks",
            method: Method::GET,
            who: Who::ADMINS,
            answers: &[200, 400, 422, 503],
            handler: get(webhooks::handler::page).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}",
            method: Method::GET,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 503],
            handler: get(webhooks::handler::show).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}",
            method: Method::PATCH,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 415, 422, 503],
            handler: patch(webhooks::handler::patch).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}",
            method: Method::DELETE,
            who: Who::ADMINS,
            answers: &[204, 400, 404, 503],
            handler: delete(webhooks::handler::delete).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}/test",
            method: Method::POST,
            who: Who::ADMINS,
            answers: &[202, 400, 404, 409, 503],
            handler: post(webhooks::handler::test).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}/rotate-secret",
            method: Method::POST,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 503],
            handler: post(webhooks::handler::rotate_secret).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}/deliveries",
            method: Method::GET,
            who: Who::ADMINS,
            answers: &[200, 400, 404, 422, 503],
            handler: get(webhooks::handler::deliveries).with_state(desk()),
        },
        Route {
            path: "/v1/webhooks/{id}/replay",
            method: Method::POST,
            who: Who::ADMINS,
            answers: &[202, 400, 404, 409, 422, 503],
            handler: post(webhooks::handler::replay).with_state(desk()),
        },
    ]
}

/// What every route that reads may answer beside what its row says.
const READ_LIMITED: &[u16] = &[429];

/// The probes, which both processes have and serve in the same way.
const PROBES: [(&str, Method, &[u16]); 2] = [
    ("/livez", Method::GET, &[200]),
    ("/readyz", Method::GET, &[200, 503]),
];

/// The service that answers clients.
pub(crate) fn router(
    intake: Arc<Intake>,
    desks: &Desks,
    auth: &Arc<Auth>,
    reads: &Arc<Reads>,
    readiness: &Arc<Readiness>,
    origins: &Origins,
    log: AccessLog,
) -> Router {
    let mut routes = probes(readiness);
    let probes = PROBES.map(|(path, method, answers)| (path, method, answers.to_vec()));
    let mut counted: Vec<CountedRoute> = probes.into();
    let webhooks = desks.webhooks.iter().flat_map(webhooks_table);
    for route in table(intake, desks).into_iter().chain(webhooks) {
        let gate = Gate {
            auth: Arc::clone(auth),
            proxies: reads.proxies.clone(),
            who: route.who,
        };
        let mut handler = route.handler.route_layer(gate);
        let mut answers = [route.answers, route.who.refusals()].concat();
        if route.method == Method::GET {
            // Outside, so that reads whose tokens are refused count, too.
            let count = middleware::from_fn_with_state(Arc::clone(reads), reads::count);
            handler = handler.route_layer(count);
            answers.extend_from_slice(READ_LIMITED);
        }
        routes = routes.route(route.path, handler);
        counted.push((route.path, route.method, answers));
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
        .allow_methods([
            Method::DELETE,
            Method::GET,
            Method::PATCH,
            Method::POST,
            Method::PUT,
        ])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header("idempotency-key"),
            header("prefer"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::ETAG,
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
