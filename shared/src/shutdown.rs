//! The end of the process: a token that turns on the first signal, and a bound on what follows.
//!
//! Nobody asks whether a shutdown is going on: the token closes the inputs, and the work ends
//! with its input.

use std::{convert::Infallible, future::pending, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log;

/// The exit status after a second signal, as a shell reports an interrupted program.
const INTERRUPTED: i32 = 130;

/// A token that the first SIGTERM or SIGINT cancels; a second one ends the process at once.
///
/// # Errors
/// The operating system refuses to report signals.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                tracing::warn!("second signal: ending at once");
                log::flush();
                std::process::exit(INTERRUPTED);
            }
            tracing::info!("draining: no new work, everything accepted is brought to its end");
            first.cancel();
        }
    });
    Ok(token)
}

/// Runs `work` to its end, but no longer than `grace` after `shutdown` was asked for.
///
/// # Errors
/// What `work` returns, or that it did not end in time.
pub async fn within(
    grace: Duration,
    shutdown: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = work => ended,
        () = out_of_time(shutdown, grace) => bail!(
            "not drained within SHUTDOWN_GRACE ({}): what was not acknowledged stays in the broker",
            humantime::format_duration(grace)
        ),
    }
}

/// Waits until `shutdown` is asked for, and then for `patience`. If it was asked for before, `patience` begins now.
pub async fn out_of_time(shutdown: &CancellationToken, patience: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(patience).await;
}

/// Runs `work` to its end, and cancels `overdue` when `patience` has gone by since `shutdown` was asked for: from then
/// on, it should wait for nothing.
pub async fn hurry<T>(
    shutdown: &CancellationToken,
    patience: Duration,
    overdue: &CancellationToken,
    work: impl Future<Output = T>,
) -> T {
    let waiting = async {
        out_of_time(shutdown, patience).await;
        overdue.cancel();
        pending::<Infallible>().await
    };
    tokio::select! {
        ended = work => ended,
        never = waiting => match never {},
    }
}

/// The end of `main`: an error is told to a person, behind the last lines of the log.
#[must_use]
pub fn exit_code(ended: anyhow::Result<()>) -> ExitCode {
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::write(format!("error: {error:#}\n").as_bytes());
            ExitCode::FAILURE
        }
    };
    log::flush();
    code
}
