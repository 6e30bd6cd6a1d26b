//! The one rule for trying again: for ever, with pauses that double up to a bound, and with jitter,
//! so that processes that lost the same server do not come back in step.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause: how late a server that has come back may be noticed.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The rule, for an operation that is retried as a whole.
#[must_use]
pub fn for_ever() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
}

/// The pauses of the rule, for a loop that is more than one operation.
#[derive(Debug)]
pub struct Pauses(ExponentialBackoff);

impl Pauses {
    /// Begins with the first pause.
    #[must_use]
    pub fn new() -> Self {
        Self(for_ever().build())
    }

    /// Waits for the next pause.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0.next().unwrap_or(PAUSE_MAX)).await;
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}
