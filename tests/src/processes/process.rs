//! One running process of the product: asked, signalled, waited for, and ended when dropped.

use std::{
    io::Write,
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::logs::Logs;
use crate::{Client, metrics::Metrics, wait};

/// The program whose answers are described.
const INGEST: &str = "hotrow-ingest";

/// A running `hotrow-ingest` or `hotrow-worker`. Dropped, it is killed; in a failing test, its last
/// log lines are shown.
pub struct Process {
    name: &'static str,
    child: Child,
    logs: Logs,
    guard: Guard,
    /// The log message that announces the listener with `/readyz`.
    health_listener: &'static str,
    admin_token: String,
}

impl Process {
    /// Starts another program that behaves like the product's: it logs its listener as JSON with the
    /// message "listening", and answers `/readyz` there.
    ///
    /// # Errors
    /// When it does not start, or is not ready `within` that time; with its last log lines.
    pub async fn start(
        name: &'static str,
        command: Command,
        within: Duration,
    ) -> anyhow::Result<Self> {
        let mut process = Self::spawn(name, command, "listening", String::new())?;
        process.ready(within).await?;
        Ok(process)
    }

    pub(super) fn spawn(
        name: &'static str,
        mut command: Command,
        health_listener: &'static str,
        admin_token: String,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the demo to handle, in its own order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let guard = Guard::over(&child)?;
        let logs = Logs::follow(child.stderr.take().context("no standard error")?);
        Ok(Self {
            name,
            child,
            logs,
            guard,
            health_listener,
            admin_token,
        })
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When the process ends before, or is not ready `within` that time; both with its last log lines.
    pub async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let what = format!("{} to be ready", self.name);
        let outcome = wait::until(&what, within, async || match self.child.try_wait() {
            Ok(None) => self.is_ready().await.then_some(Ok(())),
            Ok(Some(status)) => Some(Err(status)),
            Err(_) => None,
        })
        .await;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!(
                "{} ended while starting: {status}\n{}",
                self.name,
                self.logs.tail()
            ),
            Err(late) => Err(late.context(format!("the log ends with\n{}", self.logs.tail()))),
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether `/readyz` answers 200 at this moment.
    pub async fn is_ready(&self) -> bool {
        let Ok(client) = self.client() else {
            return false;
        };
        client
            .get("/readyz")
            .await
            .is_ok_and(|answer| answer.status.is_success())
    }

    /// Where the process answers HTTP: the API of an ingest, the health and metrics of a worker.
    ///
    /// # Errors
    /// When the process has not announced it (yet).
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.announced(self.health_listener)
    }

    /// A client of [`Process::address`], with the admin token.
    ///
    /// # Errors
    /// See [`Process::address`].
    pub fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(self.address()?)?.admin(&self.admin_token);
        Ok(if self.name == INGEST {
            client
        } else {
            client.of_another_server()
        })
    }

    /// The URL of the metrics.
    ///
    /// # Errors
    /// When the process has not announced their listener (yet).
    pub fn metrics_url(&self) -> anyhow::Result<String> {
        Ok(format!(
            "http://{}/metrics",
            self.announced("metrics listening")?
        ))
    }

    /// The metrics by now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::scrape(&self.metrics_url()?).await
    }

    /// Asks the process to drain and end.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends the process as a crash would.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Sends a signal, `SIGSTOP` and `SIGCONT` for one.
    ///
    /// # Errors
    /// When the process has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it does not end `within` that time; with its last log lines.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let status = wait::until(&what, within, async || self.child.try_wait().ok().flatten())
            .await
            .with_context(|| format!("the log ends with\n{}", self.logs.tail()))?;
        self.guard.dismiss();
        Ok(status)
    }

    /// The last log lines.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.logs.tail()
    }

    /// Returns whether one of the last log lines contains a text.
    #[must_use]
    pub fn has_logged(&self, text: &str) -> bool {
        self.logs.mention(text)
    }

    fn announced(&self, message: &str) -> anyhow::Result<SocketAddr> {
        self.logs
            .address(message)
            .with_context(|| format!("{} has not logged \"{message}\"", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.guard.dismiss();
        if thread::panicking() {
            eprintln!("the log of {} ends with\n{}", self.name, self.logs.tail());
        }
    }
}

/// Kills the process when this one goes without dropping its values, as every test binary does in
/// the end. Like the servers' guardians: a pipe is closed by the kernel whatever happens.
struct Guard {
    shell: Child,
    word: Option<ChildStdin>,
}

impl Guard {
    const SCRIPT: &str = r#"trap '' HUP INT TERM; read -r _ || kill -s KILL "$1""#;

    fn over(child: &Child) -> anyhow::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", Self::SCRIPT, "process-guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start a guard")?;
        let word = shell.stdin.take();
        Ok(Self { shell, word })
    }

    /// The process has ended and its id may be another's soon.
    fn dismiss(&mut self) {
        if let Some(mut word) = self.word.take() {
            // The guard is there until it is told to go.
            let _ = word.write_all(b"dismissed\n");
            let _ = self.shell.wait();
        }
    }
}
