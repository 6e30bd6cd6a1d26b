//! Events: after the commit, programs beside Hotrow are told what became of orders and stock, at least once.
//!
//! A settlement writes one row that says that its events are not out (`store::outbox`). `publisher` writes them from
//! memory, beside settling, and removes the row once the stream has them. If it cannot, because the process ended,
//! the broker takes nothing or too much waits, the row stays, and `sweep` makes the same events from the tables.
//! Administrators' changes have such rows, too, and nobody but the sweep.

pub mod command;
mod publisher;
mod sender;
mod settlement;
mod sweep;
mod tables;

pub(crate) use self::{publisher::Publisher, sender::Sender, sweep::Sweep};

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::outbox;

/// How often the outbox is emptied where nobody is told, a step each time.
const FORGET_INTERVAL: Duration = Duration::from_mins(1);

/// Empties the outbox until `shutdown`, in a worker without events: it has rows if other processes have them on, or
/// had. What is younger than an hour stays: events may be about to be turned on, process by process.
pub(crate) async fn forget_for_ever(pool: PgPool, shutdown: CancellationToken) {
    loop {
        match outbox::clear(&pool).await {
            Ok(0) => {}
            Ok(rows) => tracing::warn!(
                rows,
                "EVENTS is off here, and other processes write events: they are dropped. Set EVENTS alike everywhere"
            ),
            Err(error) => tracing::warn!(%error, "the outbox cannot be emptied"),
        }
        if shutdown
            .run_until_cancelled(sleep(FORGET_INTERVAL))
            .await
            .is_none()
        {
            return;
        }
    }
}
