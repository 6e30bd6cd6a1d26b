//! `GET /v1/orders/{order_id}` and `GET /v1/orders?ids=`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream::FuturesOrdered};
use hotrow_shared::id::OrderId;
use serde::Deserialize;

use super::{
    StatusDesk,
    reader::{Found, NoAnswer},
};
use crate::http::{problem::Problem, whole_seconds};

/// The longest wait that a client can ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most orders in one question.
const IDS_MAX: usize = 100;

impl From<NoAnswer> for Problem {
    fn from(_: NoAnswer) -> Self {
        Self::Unavailable("the database")
    }
}

/// One order; with `Prefer: wait=N`, as soon as it is settled.
///
/// # Errors
/// 404 for an id that was never issued or is no longer kept, 503 without a database.
pub(crate) async fn one(
    State(desk): State<Arc<StatusDesk>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let id = recognise(&desk, &id)?;
    let wait = preferred_wait(&headers);
    let found = desk.find_within(id, wait.unwrap_or_default()).await?;
    let mut response = match found {
        Found::Settled(document) | Found::Failed(document) => json(document),
        Found::Queued => {
            let wait = desk.backlog.longest_wait();
            let mut response = json(queued(id, wait).into());
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, whole_seconds(wait).into());
            response
        }
        Found::Dropped => return Err(Problem::NotFound("this order is no longer kept")),
    };
    if let Some(applied) =
        wait.and_then(|wait| HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok())
    {
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// The query of [`many`].
#[derive(Deserialize)]
pub(crate) struct Ids {
    ids: Option<String>,
}

/// Several orders, in the order asked.
///
/// # Errors
/// 422 for none or too many, 404 if one of the ids was never issued, 503 without a database.
pub(crate) async fn many(
    State(desk): State<Arc<StatusDesk>>,
    query: Result<Query<Ids>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Ids { ids }) = query?;
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
    let wait = desk.backlog.longest_wait();
    let documents: FuturesOrdered<_> = ids.iter().map(|id| document(&desk, *id, wait)).collect();
    let documents: Vec<_> = documents.try_collect().await?;
    let mut body = br#"{"orders":["#.to_vec();
    for (at, document) in documents.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(document);
    }
    body.extend_from_slice(b"]}");
    Ok(json(body.into()))
}

async fn document(desk: &StatusDesk, id: OrderId, wait: Duration) -> Result<Bytes, Problem> {
    match desk.find(id).await? {
        Found::Settled(document) | Found::Failed(document) => Ok(document),
        Found::Queued => Ok(queued(id, wait).into()),
        Found::Dropped => Err(Problem::NotFound("one of these orders is no longer kept")),
    }
}

fn recognise(desk: &StatusDesk, text: &str) -> Result<OrderId, Problem> {
    desk.mint
        .recognise(text)
        .ok_or(Problem::NotFound("there is no such order"))
}

fn queued(id: OrderId, wait: Duration) -> String {
    format!(
        r#"{{"order_id":"{id}","status":"queued","estimated_wait_ms":{}}}"#,
        wait.as_millis()
    )
}

fn json(body: Bytes) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

/// The wait that a client prefers (RFC 7240, section 4.3), within bounds. A preference that cannot
/// be read is ignored, as the RFC wants it.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(','));
    let wait = preferences.filter_map(|preference| {
        let (name, seconds) = preference.split(';').next()?.split_once('=')?;
        let seconds = seconds
            .trim()
            .trim_matches('"')
            .parse()
            .ok()
            .filter(|_| name.trim().eq_ignore_ascii_case("wait"))?;
        Some(Duration::from_secs(seconds).min(WAIT_MAX))
    });
    wait.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_wait_is_found_among_other_preferences_and_bounded() {
        let wait = |value: &'static str| {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static("prefer"),
                HeaderValue::from_static(value),
            )]);
            preferred_wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("wait=10"), Some(10));
        assert_eq!(wait("respond-async, Wait = 7; x"), Some(7));
        assert_eq!(wait("wait=3600"), Some(30));
        assert_eq!(wait("wait=soon"), None);
        assert_eq!(wait("respond-async"), None);
    }
}
