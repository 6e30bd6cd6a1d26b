//! The routes below `/v1/orders/{order_id}/`.

use std::sync::Arc;

use axum::{
    Json,
    body::HttpBody,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hotrow_shared::change::Ask;
use serde::Serialize;

use super::{ChangesDesk, Taken, bodies, store};
use crate::{
    auth::Caller,
    http::{
        NO_STORE, body,
        json::{Faults, Value},
        problem::Problem,
        query, status_url,
        wait::Wait,
        whole_seconds,
    },
    page::{self, in_time},
    status::{handler::settled, owner::UNKNOWN_ORDER},
};

/// How a body is read by hand.
type Examine = fn(&Value, &mut Faults) -> Option<Ask>;

/// `POST /v1/orders/{order_id}/confirm`: the order is paid.
///
/// # Errors
/// Every refusal of the contract. Of what the state of the order does not allow, only callers that wait hear.
pub(crate) async fn confirm(
    State(desk): State<Arc<ChangesDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&desk, &caller, path, request, bodies::examine_confirm).await
}

/// `POST /v1/orders/{order_id}/cancel`: the goods are not wanted, or not sold. The body may be left out.
///
/// # Errors
/// See [`confirm`].
pub(crate) async fn cancel(
    State(desk): State<Arc<ChangesDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let request = if request.body().is_end_stream() {
        with_empty_object(request)
    } else {
        request
    };
    take(&desk, &caller, path, request, bodies::examine_cancel).await
}

/// `POST /v1/orders/{order_id}/extend`: the goods are to be held for longer.
///
/// # Errors
/// See [`confirm`].
pub(crate) async fn extend(
    State(desk): State<Arc<ChangesDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    take(&desk, &caller, path, request, bodies::examine_extend).await
}

/// The same request, as if it had said that it wants nothing in particular.
fn with_empty_object(request: Request) -> Request {
    let (mut head, _) = request.into_parts();
    let json = HeaderValue::from_static("application/json");
    head.headers.insert(header::CONTENT_TYPE, json);
    Request::from_parts(head, Bytes::from_static(b"{}").into())
}

async fn take(
    desk: &ChangesDesk,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
    examine: Examine,
) -> Result<Response, Problem> {
    if let Some(customer) = caller.customer() {
        // Before anything is read or looked up, so that a flood of nonsense counts, too.
        let counted = desk.limits.count_change(customer);
        counted.map_err(Problem::RateLimited)?;
    }
    let (mut head, content) = request.into_parts();
    let [wait] = query::read(&head.uri, ["wait"])?;
    let wait = Wait::read(wait.as_deref(), &head.headers)?;
    let Path(id) = path?;
    let content = body::read(&head.headers, content).await?;
    let ask = body::parse_by_hand(&content, examine)?;
    let id = desk.mint.recognise(&id).ok_or(UNKNOWN_ORDER)?;
    let request_id = head.extensions.remove();
    // They hold the connection's buffer, and a wait may be long.
    drop((head, content));
    let taken = desk.take(id, ask, caller, request_id, wait.duration());
    let mut response = match taken.await? {
        Taken::Done(order) => settled(order),
        Taken::Queued { order, wait } => {
            let mut response = settled(order);
            *response.status_mut() = StatusCode::ACCEPTED;
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
            if let Ok(location) = HeaderValue::try_from(status_url(id)) {
                headers.insert(header::LOCATION, location);
            }
            response
        }
    };
    wait.note_applied(&mut response);
    Ok(response)
}

#[derive(Serialize)]
struct History {
    changes: Vec<store::Entry>,
    /// What to ask for as `after` to get the next page; none on the last.
    next_after: Option<i32>,
}

/// `GET /v1/orders/{order_id}/changes?after=&limit=`: what became of the order, by revision.
///
/// # Errors
/// 400 for another parameter, 404 for an unknown order and for a customer who did not place it, 409 for one that is not settled,
/// 422 for a page that cannot be, 503 without a database.
pub(crate) async fn history(
    State(desk): State<Arc<ChangesDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [after, limit] = query::read(&uri, ["after", "limit"])?;
    let limit = page::limit(limit.as_deref())?;
    let after = page::after(after.as_deref())?;
    let Path(id) = path?;
    let id = desk.mint.recognise(&id).ok_or(UNKNOWN_ORDER)?;
    let first_id = desk.settled(id, &caller).await?.parts.first_id();
    let after = i32::try_from(after).unwrap_or(i32::MAX);
    let changes = store::history(&desk.pool, first_id, after, page::read(limit));
    let mut changes = in_time("the history of an order", changes).await?;
    let next_after = page::cut(&mut changes, limit, store::Entry::revision);
    Ok((
        [NO_STORE],
        Json(History {
            changes,
            next_after,
        }),
    )
        .into_response())
}
