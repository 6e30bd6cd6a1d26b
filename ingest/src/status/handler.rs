//! `GET /v1/orders/{order_id}` and `GET /v1/orders?ids=`.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hotrow_shared::{
    described_order::{AnyOrder, example_of},
    id::OrderId,
    outcome::Status,
};

use super::{
    StatusDesk,
    documents::{IdsQuery, Orders, list, queued},
    outcomes::Outcome,
    owner::{UNKNOWN_ORDER, require_own},
    reader::{Found, NoAnswer},
};
use crate::{
    auth::Caller,
    description::parameters::{
        IfNoneMatchHeader, OrderPath, PreferHeader, RevisionQuery, WaitQuery,
    },
    http::{
        NO_STORE,
        entity_tag::{etag, known},
        problem::Problem,
        query,
        wait::Wait,
        whole_seconds,
    },
};

/// Most orders in one question.
const IDS_MAX: usize = 100;

impl From<NoAnswer> for Problem {
    fn from(_: NoAnswer) -> Self {
        Self::Unavailable("the database")
    }
}

/// What is said of an order whose day is gone.
pub(crate) const DROPPED_ORDER: Problem = Problem::NotFound("this order is no longer kept");

/// One order; with a wait, as soon as it is settled. A client that names the revision it knows, by `after_revision` or
/// by `If-None-Match`, gets the document if its revision is higher, and else 304; with a wait, at its end.
///
/// # Errors
/// 400 for a query or a wait that cannot be read, 404 for an id that was never issued, is
/// another customer's or is no longer kept, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/orders/{order_id}",
    operation_id = "readOrder",
    tag = "orders",
    summary = "Ask for an order",
    description = "What became of the order by now; with a wait, as soon as it is settled. With a wait and the revision that the client knows, by `after_revision` or `If-None-Match`, as soon as it has a higher one, and 304 if it has none by the end. Without a wait, 304 comes at once. While an order is queued, anybody who may call sees it; from settling on, a customer sees only its own.",
    params(OrderPath, WaitQuery, RevisionQuery, PreferHeader, IfNoneMatchHeader),
    responses(
        (
            status = 200, description = "The order as it is now. `Retry-After` says when to ask again for one that is queued, and `ETag` is the revision of one that is settled.",
            body = AnyOrder, headers(("ETag"), ("Retry-After"), ("Preference-Applied"), ("Cache-Control")),
            examples(
                ("queued" = (value = json!({"order_id": "01a1fe23-4721-808d-a41e-5192f1f4fdd2", "status": "queued", "estimated_wait_ms": 40}))),
                ("reserved" = (value = json!(example_of(Status::Reserved)))),
                ("confirmed" = (value = json!(example_of(Status::Confirmed)))),
                ("expired" = (value = json!(example_of(Status::Expired)))),
                ("cancelled" = (value = json!(example_of(Status::Cancelled)))),
                ("rejected" = (value = json!(example_of(Status::Rejected)))),
                ("failed" = (value = json!(example_of(Status::Failed)))),
            ),
        ),
        (status = 304, description = "It has no higher revision than the client knows.", headers(("ETag"), ("Preference-Applied"), ("Cache-Control"))),
    ),
)]
pub(crate) async fn one(
    State(desk): State<Arc<StatusDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let [wait, after] = query::read(&uri, ["wait", "after_revision"])?;
    let wait = Wait::read(wait.as_deref(), &headers)?;
    let after = match after {
        Some(text) => Some(revision(&text).ok_or_else(no_revision)?),
        None => known_revision(&headers),
    };
    // They hold the connection's buffer, and a wait may be long.
    drop((uri, headers));
    let id = recognise(&desk, &id)?;
    let found = find(&desk, &caller, &[id], wait, after).await?.pop();
    let mut response = match found.unwrap_or(Found::Queued) {
        Found::Settled(outcome) if after.is_some_and(|after| outcome.revision <= after) => {
            let mut unchanged = settled(outcome);
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            *unchanged.body_mut() = axum::body::Body::empty();
            unchanged.headers_mut().remove(header::CONTENT_TYPE);
            unchanged
        }
        Found::Settled(outcome) => settled(outcome),
        Found::Queued | Found::Replayed => {
            let wait = desk.backlog.longest_wait();
            let mut response = json(queued(id, wait).into());
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, whole_seconds(wait).into());
            response
        }
        Found::Dropped => return Err(DROPPED_ORDER),
    };
    wait.note_applied(&mut response);
    Ok(response)
}

/// The document of a settled order, with its revision as the entity tag.
pub(crate) fn settled(outcome: Outcome) -> Response {
    let mut response = json(outcome.document);
    response.headers_mut().extend([etag(outcome.revision)]);
    response
}

/// The highest revision among the entity tags of `If-None-Match`. Tags that are none of ours match nothing.
fn known_revision(headers: &HeaderMap) -> Option<i32> {
    known(headers).filter_map(revision).max()
}

fn revision(text: &str) -> Option<i32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn no_revision() -> Problem {
    Problem::Malformed(
        "the query parameter after_revision must be a whole number, such as after_revision=1"
            .to_owned(),
    )
}

/// Several orders, in the order asked; with a wait, as soon as all of them are settled.
///
/// # Errors
/// 400 for a query or a wait that cannot be read, 422 for none or too many, 404 if one of the ids was
/// never issued or is another customer's, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/orders",
    operation_id = "readOrders",
    tag = "orders",
    summary = "Ask for several orders",
    description = "Up to 100 orders, in the order of the ids, each as by itself; with a wait, as soon as all of them are settled. 404 as a whole if one was never issued, is another customer's or is no longer kept.",
    params(IdsQuery, WaitQuery, PreferHeader),
    responses((status = 200, description = "The orders as they are now.", body = Orders, headers(("Preference-Applied"), ("Cache-Control")), example = json!({"orders": [example_of(Status::Confirmed)]}))),
)]
pub(crate) async fn many(
    State(desk): State<Arc<StatusDesk>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let [ids, wait] = query::read(&uri, ["ids", "wait"])?;
    let wait = Wait::read(wait.as_deref(), &headers)?;
    let text = ids.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| {
        Problem::Invalid("ids: must name 1 to 100 orders, separated by commas".to_owned())
    })?;
    let ids = text.split(',').map(str::trim);
    if ids.clone().count() > IDS_MAX {
        return Err(Problem::Invalid(format!(
            "ids: must name at most {IDS_MAX} orders"
        )));
    }
    let ids = ids
        .map(|id| recognise(&desk, id))
        .collect::<Result<Vec<_>, _>>()?;
    drop((uri, headers));
    let found = find(&desk, &caller, &ids, wait, None).await?;
    let mut response = json(list(&ids, found, desk.backlog.longest_wait())?.into());
    wait.note_applied(&mut response);
    Ok(response)
}

/// Finds orders that the caller may see.
async fn find(
    desk: &StatusDesk,
    caller: &Caller,
    ids: &[OrderId],
    wait: Wait,
    after: Option<i32>,
) -> Result<Vec<Found>, Problem> {
    let found = match wait {
        Wait::Not => desk.finder.find(ids).await?,
        Wait::Asked(wait) | Wait::Preferred(wait) => {
            // Otherwise the time that it takes would show that somebody else's order is there.
            let is_refused = |found: &[Found]| require_own(caller, found).is_err();
            desk.find_within(ids, wait, after, is_refused).await?
        }
    };
    require_own(caller, &found)?;
    Ok(found)
}

/// Reads the id of an order.
///
/// # Errors
/// This installation never issued it (404).
pub(crate) fn recognise(desk: &StatusDesk, text: &str) -> Result<OrderId, Problem> {
    desk.mint.recognise(text).ok_or(UNKNOWN_ORDER)
}

fn json(body: Bytes) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        NO_STORE,
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(tags: &[&'static str]) -> Option<i32> {
        let headers = tags
            .iter()
            .map(|tag| (header::IF_NONE_MATCH, HeaderValue::from_static(tag)));
        known_revision(&headers.collect())
    }

    #[test]
    fn the_revision_that_a_client_knows_is_found_among_its_tags() {
        assert_eq!(known(&["\"3\""]), Some(3));
        assert_eq!(known(&["W/\"3\""]), Some(3));
        assert_eq!(known(&["\"abc\", \"2\"", "\"4\", \"x\""]), Some(4));
        for foreign in ["*", "3", "\"\"", "\"-1\"", "\"1.5\"", "\"99999999999\""] {
            assert_eq!(known(&[foreign]), None, "{foreign}");
        }
        assert_eq!(known(&[]), None);
    }

    #[test]
    fn a_revision_is_a_whole_number() {
        assert_eq!(revision("0"), Some(0));
        assert_eq!(revision("12"), Some(12));
        for wrong in ["", "+1", "-1", "1.0", "one", "99999999999"] {
            assert_eq!(revision(wrong), None, "{wrong}");
        }
    }
}
