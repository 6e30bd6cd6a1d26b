//! Bodies and headers of requests: bounded in size and time, and explained when they cannot be read.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use hotrow_shared::id::IdempotencyKey;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    json::{Faults, Value},
    malformed::explain,
    problem::Problem,
};

/// The largest body, in bytes, unless a route says otherwise.
pub(crate) const BODY_MAX: usize = 16 * 1024;
/// How much of a larger body is read and thrown away: a client that is still sending when its
/// connection is closed may not see why.
const DISCARDED_MAX: usize = 1024 * 1024;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a body may take: a client that trickles must not hold a connection for ever.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a body that says that it is JSON.
///
/// # Errors
/// Another content type, compressed, too large, too slow, or cut off.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    read_up_to(BODY_MAX, headers, body).await
}

/// Reads a body that says that it is JSON and that may have so many bytes.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_up_to(
    bytes_max: usize,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    read_as(&["application/json"], bytes_max, headers, body).await
}

/// Reads a body that says that it is JSON or a merge patch (RFC 7396).
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_patch(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let types = ["application/merge-patch+json", "application/json"];
    read_as(&types, BODY_MAX, headers, body).await
}

async fn read_as(
    types: &[&str],
    bytes_max: usize,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Bytes, Problem> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !types
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
    {
        return Err(Problem::UnsupportedMediaType);
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::Compressed);
    }
    match timeout(BODY_TIME_MAX, Limited::new(&mut body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(Problem::TooLarge(bytes_max))
        }
        Ok(Err(_)) => Err(Problem::Malformed(
            "the body ended before it was complete".to_owned(),
        )),
        Err(_) => Err(Problem::TooSlow(BODY_TIME_MAX)),
    }
}

async fn discard(body: Body) {
    let mut rest = Limited::new(body, DISCARDED_MAX);
    let read = async { while let Some(Ok(_)) = rest.frame().await {} };
    // Whether it ends well or in time makes no difference to the answer.
    let _ = timeout(DISCARD_TIME_MAX, read).await;
}

/// Reads a JSON object: at once if it is right, else by hand.
///
/// # Errors
/// `malformed` if it is not JSON, `invalid` with all that `examine` notes.
pub(crate) fn parse<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    examine: impl FnOnce(&Value, &mut Faults) -> Option<T>,
) -> Result<T, Problem> {
    // serde takes the values of a struct in a row, too; the contract does not.
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    match serde_json::from_slice(bytes) {
        Ok(value) if is_object => Ok(value),
        _ => parse_by_hand(bytes, examine),
    }
}

/// Reads a JSON object by hand, which is slower and notes all that is wrong with it.
///
/// # Errors
/// `malformed` if it is not JSON, `invalid` with all that `examine` notes.
pub(crate) fn parse_by_hand<T>(
    bytes: &[u8],
    examine: impl FnOnce(&Value, &mut Faults) -> Option<T>,
) -> Result<T, Problem> {
    let body = serde_json::from_slice(bytes).map_err(|error| explain(bytes, error))?;
    let mut faults = Faults::default();
    match examine(&body, &mut faults) {
        Some(value) if faults.is_empty() => Ok(value),
        _ => Err(Problem::InvalidBody(faults)),
    }
}

/// The idempotency key of a request, if it has one.
///
/// # Errors
/// More than one, or one that cannot be a key.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let malformed = |detail: &str| Problem::Malformed(format!("Idempotency-Key {detail}"));
    if values.next().is_some() {
        return Err(malformed("must be given once"));
    }
    let text = value
        .to_str()
        .map_err(|_| malformed("must be visible ASCII characters"))?;
    text.parse()
        .map(Some)
        .map_err(|error: hotrow_shared::id::NotAKey| malformed(&error.to_string()))
}
