//! The routes of `/v1/sale`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};

use super::{
    SaleDesk,
    bodies::{SwitchBody, SwitchRequest, UNTIL},
    store,
};
use crate::{
    audit::By,
    http::{NO_STORE, body, json::Faults, problem::Problem, query},
    page::done_in_time,
};

/// How long turning the switch may take.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(5);

/// `GET /v1/sale`: whether purchases are stopped, and until when.
///
/// # Errors
/// 400 for a parameter, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/sale",
    operation_id = "readSwitch",
    tag = "sale",
    summary = "See whether all purchases are stopped",
    description = "The switch as it works now: once its end has come, nothing of the stop is left.",
    responses((status = 200, description = "The switch.", body = store::Shown, headers(("Cache-Control")), example = json!({"paused": true, "holds": "keep", "until": "2026-12-01T10:00:00.000Z", "note": "the provider is down", "at": "2026-12-01T09:30:00.000Z"}))),
)]
pub(crate) async fn show(State(desk): State<Arc<SaleDesk>>, uri: Uri) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    Ok(([NO_STORE], Json(desk.shown().await?)).into_response())
}

/// `PUT /v1/sale`: stops all purchases at every process within a second, or lets them go on.
///
/// # Errors
/// 401 without the token, 422 for what the switch cannot be, 503 without a database.
#[utoipa::path(
    put,
    path = "/v1/sale",
    operation_id = "turnSwitch",
    tag = "sale",
    summary = "Stop all purchases, or let them go on",
    description = "It works at every process within a second, and survives restarts. What was accepted is settled; polls, payments and cancellations go on.",
    request_body(content = SwitchRequest, example = json!({"paused": true, "holds": "keep", "until": null, "note": "the provider is down"})),
    responses((status = 200, description = "The switch as it is now.", body = store::Shown, headers(("Cache-Control")), example = json!({"paused": true, "holds": "keep", "until": "2026-12-01T10:00:00.000Z", "note": "the provider is down", "at": "2026-12-01T09:30:00.000Z"}))),
)]
pub(crate) async fn turn(
    State(desk): State<Arc<SaleDesk>>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let content = body::read(&headers, content).await?;
    let switch = body::parse_by_hand(&content, SwitchBody::examine)?;
    let began = Instant::now();
    let turned = store::write(&desk.changes, &switch, &by);
    let what = "the switch for all purchases";
    let turned = done_in_time(
        CHANGE_TIME_MAX,
        what,
        || Problem::CommandUnknown(None),
        turned,
    );
    let over = || Problem::InvalidBody(Faults::one(&UNTIL, "must be later than now"));
    let turned = turned.await?.ok_or_else(over)?;
    desk.tell(&turned, began).await;
    let now = turned.now;
    Ok(([NO_STORE], Json(turned.shown(now))).into_response())
}
