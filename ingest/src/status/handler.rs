//! `GET /v1/orders/{order_id}` and `GET /v1/orders?ids=`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hotrow_shared::id::OrderId;

use super::{
    StatusDesk,
    reader::{Found, NoAnswer},
};
use crate::http::{problem::Problem, query, whole_seconds};

/// The longest wait that a client can ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most orders in one question.
const IDS_MAX: usize = 100;

impl From<NoAnswer> for Problem {
    fn from(_: NoAnswer) -> Self {
        Self::Unavailable("the database")
    }
}

/// One order; with a wait, as soon as it is settled.
///
/// # Errors
/// 400 for a query or a wait that cannot be read, 404 for an id that was never issued or is no longer
/// kept, 503 without a database.
pub(crate) async fn one(
    State(desk): State<Arc<StatusDesk>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let [wait] = query::read(&uri, ["wait"])?;
    let wait = Wait::read(wait.as_deref(), &headers)?;
    // They hold the connection's buffer, and a wait may be long.
    drop((uri, headers));
    let id = recognise(&desk, &id)?;
    let found = find(&desk, &[id], wait).await?.pop();
    let mut response = match found.unwrap_or(Found::Queued) {
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
    wait.note_applied(&mut response);
    Ok(response)
}

/// Several orders, in the order asked; with a wait, as soon as all of them are settled.
///
/// # Errors
/// 400 for a query or a wait that cannot be read, 422 for none or too many, 404 if one of the ids was
/// never issued, 503 without a database.
pub(crate) async fn many(
    State(desk): State<Arc<StatusDesk>>,
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
    let found = find(&desk, &ids, wait).await?;
    let mut response = json(list(&ids, found, desk.backlog.longest_wait())?.into());
    wait.note_applied(&mut response);
    Ok(response)
}

async fn find(desk: &StatusDesk, ids: &[OrderId], wait: Wait) -> Result<Vec<Found>, NoAnswer> {
    match wait {
        Wait::Not => desk.finder.find(ids).await,
        Wait::Asked(wait) | Wait::Preferred(wait) => desk.find_within(ids, wait).await,
    }
}

/// Strings the documents of orders together.
fn list(ids: &[OrderId], found: Vec<Found>, wait: Duration) -> Result<Vec<u8>, Problem> {
    let mut body = br#"{"orders":["#.to_vec();
    for (at, (id, found)) in ids.iter().zip(found).enumerate() {
        if at > 0 {
            body.push(b',');
        }
        match found {
            Found::Settled(document) | Found::Failed(document) => body.extend_from_slice(&document),
            Found::Queued => body.extend_from_slice(queued(*id, wait).as_bytes()),
            Found::Dropped => {
                return Err(Problem::NotFound("one of these orders is no longer kept"));
            }
        }
    }
    body.extend_from_slice(b"]}");
    Ok(body)
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

/// How long a client is ready to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It wants an answer at once.
    Not,
    /// By the query parameter `wait`, which costs a browser no preflight.
    Asked(Duration),
    /// By `Prefer: wait=N` (RFC 7240, section 4.3).
    Preferred(Duration),
}

impl Wait {
    /// Reads the wait of a request, cut at [`WAIT_MAX`]. The query parameter counts before the header.
    fn read(parameter: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(text) = parameter {
            return seconds(text)
                .map(Self::Asked)
                .ok_or_else(|| malformed("the query parameter wait"));
        }
        for value in headers.get_all("prefer") {
            let value = value.to_str().map_err(|_| malformed("Prefer: wait"))?;
            for preference in value.split(',') {
                let (name, text) = name_and_value(preference);
                if name.eq_ignore_ascii_case("wait") {
                    return seconds(text)
                        .map(Self::Preferred)
                        .ok_or_else(|| malformed("Prefer: wait"));
                }
            }
        }
        Ok(Self::Not)
    }

    /// Says that the preference was followed.
    fn note_applied(self, response: &mut Response) {
        let Self::Preferred(wait) = self else { return };
        let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs()));
        if let Ok(applied) = applied {
            response.headers_mut().insert("preference-applied", applied);
        }
    }
}

/// The parts of a preference such as `wait=10; foo`. One without a value has an empty one.
fn name_and_value(preference: &str) -> (&str, &str) {
    let preference = preference.split(';').next().unwrap_or_default();
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    (name.trim(), value.trim().trim_matches('"'))
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Digits that do not fit into the number are a long wait, too.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)).min(WAIT_MAX))
}

fn malformed(what: &str) -> Problem {
    Problem::Malformed(format!(
        "{what} must be a whole number of seconds, such as wait=10"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameter: Option<&str>, preferences: &'static [&'static str]) -> Option<Wait> {
        let prefer = header::HeaderName::from_static("prefer");
        let headers = preferences
            .iter()
            .map(|value| (prefer.clone(), HeaderValue::from_static(value)));
        Wait::read(parameter, &headers.collect()).ok()
    }

    #[test]
    fn a_wait_is_found_among_other_preferences_and_bounded() {
        let preferred = |seconds| Some(Wait::Preferred(Duration::from_secs(seconds)));
        assert_eq!(read(None, &["wait=10"]), preferred(10));
        assert_eq!(read(None, &["respond-async", "Wait = 7; x"]), preferred(7));
        assert_eq!(read(None, &["handling=lenient, wait=\"3\""]), preferred(3));
        assert_eq!(read(None, &["wait=3600"]), preferred(30));
        assert_eq!(read(None, &["wait=99999999999999999999"]), preferred(30));
        assert_eq!(read(None, &["respond-async"]), Some(Wait::Not));
        assert_eq!(read(None, &[]), Some(Wait::Not));
    }

    #[test]
    fn the_query_parameter_counts_before_the_header() {
        let asked = Some(Wait::Asked(Duration::from_secs(5)));
        assert_eq!(read(Some("5"), &[]), asked);
        assert_eq!(read(Some("5"), &["wait=soon"]), asked);
    }

    #[test]
    fn a_wait_that_cannot_be_read_is_refused() {
        for wrong in [
            "wait",
            "wait=",
            "wait=soon",
            "wait=-1",
            "wait=1.5",
            "wait=+1",
        ] {
            let prefer = header::HeaderName::from_static("prefer");
            let headers = [(prefer, HeaderValue::from_static(wrong))];
            let read = Wait::read(None, &headers.into_iter().collect());
            assert!(read.is_err(), "{wrong}");
        }
        assert!(read(Some(""), &[]).is_none());
        assert!(read(Some("soon"), &[]).is_none());
    }
}
