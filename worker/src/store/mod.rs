//! Every statement of the worker about orders and stock, a file for each table that it writes; `told` reads what events
//! tell.
//!
//! The sequence of a settlement matters and is the same for everybody: rows are locked in SKU order,
//! and what is settled already is read *after* the lock, in a statement of its own. Whoever held the
//! lock before us has committed by then, so two workers with the same envelope cannot both miss it.

pub(crate) mod audit_log;
pub(crate) mod changes;
pub(crate) mod customers;
pub(crate) mod error;
pub(crate) mod holds;
pub(crate) mod inventory;
pub(crate) mod orders;
pub(crate) mod outbox;
pub(crate) mod settlement;
pub(crate) mod switch;
pub(crate) mod told;
pub(crate) mod unmatched;

use std::{io, time::Duration};

use tokio::time::timeout;

pub(crate) use error::{RetryCause, StoreError};

/// Waits for the database for this long at most. After that its connection is not to be used again: a host
/// that vanished says nothing, and the server's own limits are of no help then.
///
/// # Errors
/// What the database said, or that it said nothing.
pub(crate) async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let answer = timeout(limit, asked).await;
    answer.unwrap_or_else(|_| Err(silence().into()))
}

/// The error of a database that said nothing for too long.
pub(crate) fn silence() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::TimedOut.into())
}
