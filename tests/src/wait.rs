//! Waiting for a condition with a deadline: the one place of the harness that sleeps.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// Short beside anything that is waited for, long beside the cost of asking.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` returns a value. `what` completes the sentence "waited 5s for …".
///
/// # Errors
/// When the condition returned nothing `within` that time.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} for {what}");
        }
        sleep(POLL).await;
    }
}
