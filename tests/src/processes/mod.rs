//! The product as black boxes: its binaries, built, started with settings and asked over HTTP.

mod before;
mod binaries;
mod logs;
mod process;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

pub use self::{before::before, process::Process};
use crate::Place;

/// The secret that all processes of the tests make order ids with.
pub const ORDER_ID_SECRET: &str = "a-secret-for-tests-of-more-than-32-characters";
/// The token that the tests' ingest processes know their admin by.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";

/// A start on a busy machine, with the broker's queues to be declared.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The settings of a process to be: what a test needs, on free ports, and else the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    role: Role,
    environment: BTreeMap<String, String>,
    /// What `ulimit` sets before the start.
    descriptors: Option<String>,
    /// Where the programs are, if they are not this workspace's.
    folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Ingest,
    Worker,
    /// A worker that is told to deliver.
    Webhooks,
}

impl Role {
    const fn binary(self) -> &'static str {
        match self {
            Self::Ingest => "hotrow-ingest",
            Self::Worker | Self::Webhooks => "hotrow-worker",
        }
    }
}

impl Settings {
    /// An ingest process at a place.
    #[must_use]
    pub fn ingest(place: &Place) -> Self {
        Self::new(Role::Ingest, place)
            .set("LISTEN_ADDR", "127.0.0.1:0")
            .set("ADMIN_TOKEN", ADMIN_TOKEN)
    }

    /// A worker at a place.
    #[must_use]
    pub fn worker(place: &Place) -> Self {
        Self::new(Role::Worker, place)
    }

    /// A process at a place that sends webhooks.
    #[must_use]
    pub fn webhooks(place: &Place) -> Self {
        Self::new(Role::Webhooks, place)
    }

    fn new(role: Role, place: &Place) -> Self {
        Self {
            role,
            environment: BTreeMap::new(),
            descriptors: None,
            folder: None,
        }
        .set("DATABASE_URL", &place.database_url)
        .set("AMQP_URL", &place.amqp_url)
        .set("METRICS_ADDR", "127.0.0.1:0")
        .set("ORDER_ID_SECRET", ORDER_ID_SECRET)
        // The secrets above are published.
        .set("DEVELOPMENT", "true")
    }

    /// The same with a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a setting left at its default.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// The same with limits of file descriptors, as options of `ulimit`: `-S -n 256` or `-n 500`.
    #[must_use]
    pub fn descriptors(mut self, ulimit: &str) -> Self {
        self.descriptors = Some(ulimit.to_owned());
        self
    }

    /// The same with the programs of another build.
    #[must_use]
    pub fn built_in(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// The same without any rate limit.
    #[must_use]
    pub fn unlimited(self) -> Self {
        let limits = [
            "RATE_LIMIT_IP",
            "RATE_LIMIT_CUSTOMER",
            "RATE_LIMIT_GLOBAL",
            "RATE_LIMIT_READS",
            "RATE_LIMIT_LOGINS",
        ];
        limits
            .into_iter()
            .fold(self, |settings, limit| settings.set(limit, "off"))
    }

    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// When it does not build, or does not get ready; with its last log lines.
    pub async fn start(&self) -> anyhow::Result<Process> {
        let mut process = self.spawn().await?;
        process.ready(READY_WITHIN).await?;
        Ok(process)
    }

    /// Starts the process without waiting for anything.
    ///
    /// # Errors
    /// When it does not build.
    pub async fn spawn(&self) -> anyhow::Result<Process> {
        let health_listener = match self.role {
            Role::Ingest => "listening",
            Role::Worker | Role::Webhooks => "metrics listening",
        };
        let admin_token = self
            .environment
            .get("ADMIN_TOKEN")
            .cloned()
            .unwrap_or_default();
        Process::spawn(
            self.role.binary(),
            self.command().await?,
            health_listener,
            admin_token,
        )
    }

    /// Runs the program with these arguments to its end. Returns its output and status.
    ///
    /// # Errors
    /// When it does not build.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command().await?;
        command.args(arguments).stdin(Stdio::null());
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// The command that starts the process, for whoever wants to give it other ends than [`Process`] does.
    ///
    /// # Errors
    /// When it does not build.
    pub async fn command(&self) -> anyhow::Result<Command> {
        let name = self.role.binary();
        let binary = match &self.folder {
            None => binaries::binary(name).await?.to_owned(),
            Some(folder) => folder.join(name),
        };
        let mut command = match &self.descriptors {
            None => Command::new(binary),
            Some(ulimit) => {
                let mut shell = Command::new("/bin/sh");
                let script = format!("ulimit {ulimit} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script]).arg(binary);
                shell
            }
        };
        if let Role::Webhooks = self.role {
            command.arg("webhooks");
        }
        // Nothing of our own environment may act as a setting.
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("RUST_BACKTRACE", "1").envs(&self.environment);
        Ok(command)
    }
}

/// Builds the binaries, which the first start of a process does otherwise.
///
/// # Errors
/// When they do not build.
pub async fn build() -> anyhow::Result<()> {
    binaries::binary(Role::Ingest.binary()).await.map(drop)
}

/// Brings the schema of a place's database up to date.
///
/// # Errors
/// When `hotrow-worker migrate` fails; with its output.
pub async fn migrate(place: &Place) -> anyhow::Result<()> {
    let output = Settings::worker(place)
        .run(&["migrate"])
        .await
        .context("migrate")?;
    ensure!(
        output.status.success(),
        "migrate failed\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
