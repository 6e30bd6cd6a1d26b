//! The routes: the one table from which the router, its description and the labels of the metrics come.

use std::sync::Arc;

use axum::{Router, http::Method, middleware, routing::MethodRouter};
use hotrow_shared::telemetry::Readiness;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::UtoipaMethodRouter, routes};

use crate::{
    audit::{self, AuditDesk},
    auth::{Auth, Gate, Who},
    changes::{self, ChangesDesk},
    cors::cors,
    description::{self, Route, handler::Published, page::Files},
    http::{
        access_log::AccessLog,
        code::Code,
        observe::{CountedRoute, Observer, observe},
        problem::Problem,
    },
    intake::{self, Intake},
    inventory::{self, InventoryDesk},
    limits::reads::{self, Reads},
    live::{self, LiveDesk},
    payments::{self, PaymentsDesk, stripe::StripeDesk},
    probes,
    sale::{self, SaleDesk},
    settings::Origins,
    status::{self, StatusDesk},
    webhooks::{self, WebhooksDesk},
};

/// Who answers. Without a desk there is no such path; the default is nobody, for the description of all routes.
#[derive(Default)]
pub(crate) struct Desks {
    pub(crate) intake: Option<Arc<Intake>>,
    pub(crate) status: Option<Arc<StatusDesk>>,
    pub(crate) inventory: Option<Arc<InventoryDesk>>,
    pub(crate) changes: Option<Arc<ChangesDesk>>,
    pub(crate) payments: Option<Arc<PaymentsDesk>>,
    pub(crate) live: Option<Arc<LiveDesk>>,
    pub(crate) sale: Option<Arc<SaleDesk>>,
    pub(crate) audit: Option<Arc<AuditDesk>>,
    /// None where Stripe does not tell of payments.
    pub(crate) stripe: Option<Arc<StripeDesk>>,
    /// None without events.
    pub(crate) webhooks: Option<Arc<WebhooksDesk>>,
    pub(crate) published: Option<Arc<Published>>,
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

/// One row of the table: a route as it is described, and its handler if somebody answers.
struct Row {
    route: Route,
    handler: Option<MethodRouter>,
}

/// The refusals that nearly every route may give.
const ASKED: &[Code] = &[Code::Malformed, Code::Unavailable];
/// Of a page of a list.
const PAGED: &[Code] = &[Code::Malformed, Code::Invalid, Code::Unavailable];
/// Of what is told by a name.
const NAMED: &[Code] = &[Code::NotFound];
/// Of a change: whether it was made may not be known.
const CHANGED: &[Code] = &[Code::Unavailable, Code::OutcomeUnknown];
/// Of a change of a settled order.
const COMMAND: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::NotSettled,
    Code::Overloaded,
];
/// Of an event of Stripe, whose body is no shape of ours.
const EVENT: &[Code] = &[
    Code::Malformed,
    Code::RequestTimeout,
    Code::TooLarge,
    Code::UnsupportedMediaType,
    Code::EventTooEarly,
    Code::Overloaded,
];
/// Of a body, which may be malformed, late, too large, of another type, or invalid.
const BODY: &[Code] = Code::OF_A_BODY;

/// Every route, in the order in which people meet them. Path, method and answers stand at each handler; a row adds who
/// may call, and with what the handler may refuse.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, a few lines for each route"
)]
fn table(desks: &Desks) -> Vec<Row> {
    let Desks {
        intake,
        status,
        inventory,
        changes,
        payments,
        live,
        sale,
        audit,
        stripe,
        webhooks,
        published,
        files,
        readiness,
    } = desks;
    let outdated = &[Code::PreconditionFailed];
    let key = &[Code::IdempotencyMismatch];
    let disabled = &[Code::EndpointDisabled];
    vec![
        row(
            routes!(intake::handler::place),
            intake,
            Who::BUYERS,
            &[intake::REFUSALS],
        ),
        row(
            routes!(status::handler::many),
            status,
            Who::READERS,
            &[PAGED, NAMED],
        ),
        row(
            routes!(status::handler::one),
            status,
            Who::READERS,
            &[ASKED, NAMED],
        ),
        row(
            routes!(changes::handler::history),
            changes,
            Who::PARTIES,
            &[PAGED, NAMED, &[Code::NotSettled]],
        ),
        row(
            routes!(changes::handler::confirm),
            changes,
            Who::SHOP,
            &[BODY, COMMAND, CHANGED],
        ),
        row(
            routes!(changes::handler::cancel),
            changes,
            Who::PARTIES,
            &[BODY, COMMAND, CHANGED],
        ),
        row(
            routes!(changes::handler::extend),
            changes,
            Who::STAFF,
            &[BODY, COMMAND, CHANGED],
        ),
        row(
            routes!(payments::handler::unmatched),
            payments,
            Who::SHOP,
            &[PAGED],
        ),
        row(
            routes!(payments::handler::resolve),
            payments,
            Who::SHOP,
            &[BODY, NAMED, CHANGED],
        ),
        row(
            routes!(payments::stripe::handler::receive),
            stripe,
            Who::Anybody,
            &[EVENT, CHANGED],
        ),
        row(
            routes!(inventory::handler::page),
            inventory,
            Who::Anybody,
            &[PAGED],
        ),
        row(
            routes!(inventory::handler::show),
            inventory,
            Who::Anybody,
            &[PAGED, NAMED],
        ),
        row(
            routes!(inventory::handler::put),
            inventory,
            Who::ADMINS,
            &[BODY, outdated, CHANGED],
        ),
        row(
            routes!(inventory::handler::patch),
            inventory,
            Who::ADMINS,
            &[BODY, NAMED, outdated, CHANGED],
        ),
        row(
            routes!(inventory::handler::restock),
            inventory,
            Who::ADMINS,
            &[BODY, NAMED, key, CHANGED],
        ),
        row(
            routes!(live::handler::listen_to),
            live,
            Who::Anybody,
            &[PAGED, NAMED, &[Code::Overloaded]],
        ),
        row(routes!(sale::handler::show), sale, Who::Anybody, &[ASKED]),
        row(
            routes!(sale::handler::turn),
            sale,
            Who::ADMINS,
            &[BODY, CHANGED],
        ),
        row(routes!(audit::handler::page), audit, Who::ADMINS, &[PAGED]),
        row(
            routes!(webhooks::handler::create),
            webhooks,
            Who::ADMINS,
            &[BODY, &[Code::TooManyEndpoints], CHANGED],
        ),
        row(
            routes!(webhooks::handler::page),
            webhooks,
            Who::ADMINS,
            &[PAGED],
        ),
        row(
            routes!(webhooks::handler::show),
            webhooks,
            Who::ADMINS,
            &[ASKED, NAMED],
        ),
        row(
            routes!(webhooks::handler::patch),
            webhooks,
            Who::ADMINS,
            &[BODY, NAMED, CHANGED],
        ),
        row(
            routes!(webhooks::handler::delete),
            webhooks,
            Who::ADMINS,
            &[ASKED, NAMED, CHANGED],
        ),
        row(
            routes!(webhooks::handler::test),
            webhooks,
            Who::ADMINS,
            &[ASKED, NAMED, disabled, CHANGED],
        ),
        row(
            routes!(webhooks::handler::rotate_secret),
            webhooks,
            Who::ADMINS,
            &[ASKED, NAMED, CHANGED],
        ),
        row(
            routes!(webhooks::handler::deliveries),
            webhooks,
            Who::ADMINS,
            &[PAGED, NAMED],
        ),
        row(
            routes!(webhooks::handler::replay),
            webhooks,
            Who::ADMINS,
            &[BODY, NAMED, disabled, CHANGED],
        ),
        row(
            routes!(description::handler::show),
            published,
            Who::Anybody,
            &[ASKED],
        ),
        row(
            routes!(description::page::show),
            files,
            Who::Anybody,
            &[ASKED],
        ),
        row(
            routes!(description::page::show_file),
            files,
            Who::Anybody,
            &[ASKED, NAMED],
        ),
        row(routes!(probes::live), readiness, None, &[]),
        row(routes!(probes::ready), readiness, None, &[]),
    ]
}

/// A row of the table. Where nobody is named who may call, nobody is asked, and nothing is counted towards a limit.
#[expect(
    clippy::ref_option,
    reason = "the fields of the desks are passed as they are"
)]
fn row<S: Clone + Send + Sync + 'static>(
    (schemas, paths, handler): UtoipaMethodRouter<S>,
    desk: &Option<S>,
    who: impl Into<Option<Who>>,
    refuses: &[&[Code]],
) -> Row {
    Row {
        route: Route::of((schemas, paths), who.into(), refuses),
        handler: desk.clone().map(|desk| handler.with_state(desk)),
    }
}

/// The description of every route that a process can have.
#[must_use]
pub(crate) fn description() -> OpenApi {
    let table = table(&Desks::default());
    description::document(table.iter().map(|row| &row.route))
}

/// The service that answers clients.
///
/// # Errors
/// Its description cannot be written as JSON.
pub(crate) fn router(
    desks: &Desks,
    auth: &Arc<Auth>,
    reads: &Arc<Reads>,
    origins: &Origins,
    log: AccessLog,
) -> Result<Router, serde_json::Error> {
    let answered = table(desks).into_iter();
    let answered = answered.filter_map(|Row { route, handler }| Some((route, handler?)));
    let answered: Vec<_> = answered.collect();
    if let Some(published) = &desks.published {
        let document = description::document(answered.iter().map(|(route, _)| route));
        published.set(&document)?;
    }
    let mut routes = Router::new();
    let mut counted: Vec<CountedRoute> = Vec::new();
    for (route, mut handler) in answered {
        if let Some(who) = route.who {
            handler = handler.route_layer(Gate {
                auth: Arc::clone(auth),
                proxies: reads.proxies.clone(),
                who,
            });
            if route.method == Method::GET {
                // Outside, so that reads whose tokens are refused count, too.
                let count = middleware::from_fn_with_state(Arc::clone(reads), reads::count);
                handler = handler.route_layer(count);
            }
        }
        routes = routes.route(&route.path, handler);
        let answers = route.answers();
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
    Ok(routes.layer(middleware::from_fn_with_state(observer, observe)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is committed, for those who want it without a process.
    const COMMITTED: &str = include_str!("../../docs/openapi.json");

    #[test]
    fn the_committed_description_is_that_of_the_routes() {
        let described = description().to_pretty_json().expect("JSON");
        assert!(
            described.trim() == COMMITTED.trim(),
            "docs/openapi.json is not what the routes say: write it anew by `cargo openapi > docs/openapi.json`"
        );
    }
}
