//! SIGHUP: the process reads its secret files again, and never ends by it.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::settings::SecretFiles;

/// The SIGHUPs that the process gets.
pub struct Hangups(Signal);

impl Hangups {
    /// From here on SIGHUP does not end the process, even if this is dropped. The signals wait to be followed.
    ///
    /// # Errors
    /// The operating system refuses to report signals.
    pub fn listen() -> anyhow::Result<Self> {
        let hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Self(hangups))
    }

    /// Reads these files again with each of them, for as long as the process lives.
    pub fn follow(mut self, files: SecretFiles) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                let files = files.clone();
                // One after the other: while a disk is slow, further signals become one.
                let read = tokio::task::spawn_blocking(move || files.read_again());
                if let Err(error) = read.await {
                    tracing::error!(%error, "SIGHUP: the secrets could not be read again");
                }
            }
        });
    }
}
