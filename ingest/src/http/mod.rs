//! The ground of every route: connections, peers, bodies, refusals, and what surrounds a request.
//!
//! Nothing here calls a handler or asks a room: it knows how things are said, and not when.

pub(crate) mod access_log;
pub(crate) mod body;
pub(crate) mod code;
pub(crate) mod entity_tag;
pub(crate) mod exceeded;
pub(crate) mod json;
mod malformed;
pub(crate) mod not_sold;
pub(crate) mod observe;
pub(crate) mod peer;
pub(crate) mod precondition;
pub(crate) mod problem;
pub(crate) mod problem_body;
pub(crate) mod query;
pub mod server;
pub(crate) mod stored;
pub(crate) mod wait;

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use hotrow_shared::id::OrderId;

/// Where an order's status is found.
#[must_use]
pub(crate) fn status_url(id: OrderId) -> String {
    format!("/v1/orders/{id}")
}

/// The header of an answer that is for its caller alone and true for a moment.
pub(crate) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// A wait as documents have it: whole milliseconds.
#[must_use]
pub(crate) fn whole_millis(wait: Duration) -> u64 {
    wait.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A wait as `Retry-After` has it: whole seconds, rounded up, never 0.
#[must_use]
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis()
        .div_ceil(1_000)
        .max(1)
        .try_into()
        .unwrap_or(u64::MAX)
}
