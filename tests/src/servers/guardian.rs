//! The process that outlives us by a moment: it owns one server and its folder, and cleans both up.
//!
//! Neither a test binary (libtest leaves by `process::exit`) nor a process that is killed runs
//! its destructors. A pipe, however, is closed by the kernel whatever happens, so each server is
//! the child of a small shell script (`guardian.sh`) that waits for the end of its standard input.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::unistd::User;
use tempfile::TempDir;

/// How long a server may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

/// How often a starting server is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(20);

/// What a guardian needs to know about its server.
pub(super) struct Duty {
    /// The server's name in messages and in the name of its folder.
    pub name: &'static str,
    /// The server's program and arguments.
    pub command: Vec<OsString>,
    /// Environment variables for the server.
    pub environment: Vec<(&'static str, OsString)>,
    /// The signals that end the server for good, in order; its data is thrown away.
    pub last_signals: &'static str,
    /// Returns whether the server, whose folder it gets, can do its work by now.
    pub is_ready: Box<dyn Fn(&Path) -> bool + Send>,
}

/// One server under guard, shared by whoever may stop and start it. When the last owner drops it,
/// the server is ended and its folder removed.
#[derive(Clone)]
pub(super) struct Guarded(Arc<Mutex<Guardian>>);

impl Guarded {
    /// Posts a guardian over `folder` and starts the server.
    pub(super) async fn start(folder: TempDir, duty: Duty) -> anyhow::Result<Self> {
        let guarded = Self(Arc::new(Mutex::new(Guardian::post(folder, duty)?)));
        guarded.start_again().await?;
        Ok(guarded)
    }

    /// Sends the server `signal` and waits until it has ended; its data stays.
    pub(super) async fn end(&self, signal: &'static str) -> anyhow::Result<()> {
        self.blocking(move |guardian| guardian.end(signal)).await
    }

    /// Starts the ended server on the data that it left, and waits until it is ready.
    pub(super) async fn start_again(&self) -> anyhow::Result<()> {
        self.blocking(Guardian::start).await
    }

    /// The process id of the running server.
    pub(super) fn process_id(&self) -> anyhow::Result<u32> {
        let guardian = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = fs::read_to_string(guardian.folder.join("pid"));
        let text = file.with_context(|| format!("{} is not running", guardian.name))?;
        Ok(text.trim().parse()?)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Guardian) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let guardian = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            work(&mut guardian.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await?
    }
}

struct Guardian {
    name: &'static str,
    folder: PathBuf,
    is_ready: Box<dyn Fn(&Path) -> bool + Send>,
    process: Child,
    /// `None` only while dropping: closing the pipe is the order to clean up.
    orders: Option<ChildStdin>,
    reports: Receiver<Report>,
}

enum Report {
    Started,
    Ended(String),
}

impl Guardian {
    fn post(folder: TempDir, duty: Duty) -> anyhow::Result<Self> {
        let mut guardian = Command::new("/bin/sh");
        guardian
            .arg("-c")
            .arg(include_str!("guardian.sh"))
            .arg(format!("{}-guardian", duty.name))
            .arg(folder.path())
            .arg(duty.last_signals)
            .args(&duty.command)
            .envs(duty.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Away from the terminal's Ctrl-C.
            .process_group(0);
        let mut process = guardian
            .spawn()
            .with_context(|| format!("start a guardian for {}", duty.name))?;
        let orders = process.stdin.take();
        let output = process
            .stdout
            .take()
            .context("the guardian has no standard output")?;
        // From here on the guardian removes the folder.
        let folder = folder.keep();
        Ok(Self {
            name: duty.name,
            folder,
            is_ready: duty.is_ready,
            process,
            orders,
            reports: reports(output),
        })
    }

    fn start(&mut self) -> anyhow::Result<()> {
        // What was reported so far is about a server before this one.
        while self.reports.try_recv().is_ok() {}
        self.order("start")?;
        let give_up = Instant::now() + START_MAX;
        loop {
            match self.reports.recv_timeout(READY_POLL) {
                Ok(Report::Ended(status)) => {
                    bail!(
                        "{} ended with status {status} while starting\n{}",
                        self.name,
                        self.log_tail()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guardian of {} is gone", self.name)
                }
                Err(RecvTimeoutError::Timeout) if (self.is_ready)(&self.folder) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if Instant::now() > give_up => {
                    bail!(
                        "{} was not ready within {START_MAX:?}\n{}",
                        self.name,
                        self.log_tail()
                    )
                }
                Ok(Report::Started) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn end(&mut self, signal: &str) -> anyhow::Result<()> {
        self.order(&format!("end {signal}"))?;
        loop {
            match self.reports.recv() {
                Ok(Report::Ended(_)) => return Ok(()),
                Ok(Report::Started) => {}
                Err(_) => bail!("the guardian of {} is gone", self.name),
            }
        }
    }

    fn order(&mut self, order: &str) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("the guardian was dismissed")?;
        writeln!(orders, "{order}")
            .with_context(|| format!("the guardian of {} is gone", self.name))
    }

    fn log_tail(&self) -> String {
        const LINES: usize = 30;
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.orders = None;
        // The guardian never takes long, and nobody could do anything about a failure here.
        let _ = self.process.wait();
    }
}

/// A new folder for a server's files, belonging to `user`.
///
/// In `/var/tmp`, because `/tmp` is often held in memory, where an fsync costs nothing and every
/// number measured would flatter us. `TMPDIR` overrides.
pub(super) fn folder(name: &str, user: Option<&User>) -> anyhow::Result<TempDir> {
    let parent = match std::env::var_os("TMPDIR") {
        Some(chosen) => PathBuf::from(chosen),
        None if Path::new("/var/tmp").is_dir() => PathBuf::from("/var/tmp"),
        None => std::env::temp_dir(),
    };
    let folder = tempfile::Builder::new()
        .prefix(&format!("hotrow-{name}-"))
        .tempdir_in(&parent)
        .with_context(|| format!("make a folder for {name} in {}", parent.display()))?;
    if let Some(user) = user {
        chown(
            folder.path(),
            Some(user.uid.as_raw()),
            Some(user.gid.as_raw()),
        )?;
    }
    Ok(folder)
}

fn reports(output: impl std::io::Read + Send + 'static) -> Receiver<Report> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let report = match line.split_once(' ') {
                Some(("started", _)) => Report::Started,
                Some(("ended", status)) => Report::Ended(status.to_owned()),
                _ => continue,
            };
            if sender.send(report).is_err() {
                return;
            }
        }
    });
    receiver
}
