//! HTTP: the server, the routes, and what surrounds every request.

pub mod body;
pub mod observe;
pub mod peer;
pub mod problem;
pub mod router;
pub mod server;

use std::time::Duration;

use hotrow_shared::id::OrderId;

/// Where an order's status is found.
#[must_use]
pub fn status_url(id: OrderId) -> String {
    format!("/v1/orders/{id}")
}

/// A wait as `Retry-After` has it: whole seconds, rounded up, never 0.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis()
        .div_ceil(1_000)
        .max(1)
        .try_into()
        .unwrap_or(u64::MAX)
}
