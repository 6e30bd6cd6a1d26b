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
    bodies::{SwitchBody, UNTIL},
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
pub(crate) async fn show(State(desk): State<Arc<SaleDesk>>, uri: Uri) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    Ok(([NO_STORE], Json(desk.shown().await?)).into_response())
}

/// `PUT /v1/sale`: stops all purchases at every process within a second, or lets them go on.
///
/// # Errors
/// 401 without the token, 422 for what the switch cannot be, 503 without a database.
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
