//! The log on standard error, which never holds anybody up.
//!
//! Whoever logs hands the line to a thread of its own and goes on. Where standard error takes nothing,
//! because it is closed or a pipe that nobody reads, lines are lost and counted, and that is all:
//! no request waits, and no process ends, for its log.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;
/// Bytes of all lines that wait.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for the last lines to be taken.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);
/// How often that wait looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

static LINES: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();
static WAITING_LINES: AtomicUsize = AtomicUsize::new(0);
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since the start.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Hands one or more lines to the thread that writes them, or loses them. The first call starts the thread.
pub(crate) fn write(text: &[u8]) {
    let lines = LINES.get_or_init(start);
    let waiting = WAITING_BYTES.fetch_add(text.len(), Ordering::Relaxed);
    WAITING_LINES.fetch_add(1, Ordering::Relaxed);
    if waiting + text.len() > BYTES_MAX || lines.try_send(text.to_vec()).is_err() {
        done(text.len(), false);
    }
}

/// Waits until everything is written, but not for long.
pub(crate) fn flush() {
    let deadline = Instant::now() + LAST_LINES_MAX;
    while WAITING_LINES.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        thread::sleep(LOOK_INTERVAL);
    }
}

fn start() -> SyncSender<Vec<u8>> {
    let (lines, waiting) = mpsc::sync_channel(LINES_MAX);
    // Without a thread every line is lost, because the receiver is gone.
    let _ = thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(&waiting));
    lines
}

/// Writes past the lock of `std::io::stderr`: whoever else wants to write there need not wait for a pipe
/// that is full.
fn write_all(waiting: &Receiver<Vec<u8>>) {
    let mut out = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .ok();
    while let Ok(text) = waiting.recv() {
        let written = out.as_mut().is_some_and(|out| out.write_all(&text).is_ok());
        done(text.len(), written);
    }
}

fn done(bytes: usize, written: bool) {
    if !written {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    WAITING_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    WAITING_LINES.fetch_sub(1, Ordering::Relaxed);
}

/// Where the subscriber writes. It hands over each event in one piece.
pub(crate) struct Lines;

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        write(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
