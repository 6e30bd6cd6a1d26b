//! What a process says on standard error: its last lines, and the addresses that it announces.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde::Deserialize;

/// As many as a person reads when a test has failed.
const LINES_KEPT: usize = 200;

/// The log of one process, read by a thread of its own until the process closes it.
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    /// By the message that announced them.
    addresses: BTreeMap<String, SocketAddr>,
}

impl Logs {
    pub(super) fn follow(output: impl Read + Send + 'static) -> Self {
        let logs = Self::default();
        let writer = logs.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                writer.add(line);
            }
        });
        logs
    }

    /// The address in the first line with that message, `"listening"` for one.
    pub(super) fn address(&self, message: &str) -> Option<SocketAddr> {
        self.kept().addresses.get(message).copied()
    }

    /// The last lines.
    pub(super) fn tail(&self) -> String {
        self.kept().lines.make_contiguous().join("\n")
    }

    /// Returns whether one of the last lines contains a text.
    pub(super) fn mention(&self, text: &str) -> bool {
        self.kept().lines.iter().any(|line| line.contains(text))
    }

    fn add(&self, line: String) {
        let mut kept = self.kept();
        if let Ok(Line {
            fields: Fields { message, address },
        }) = serde_json::from_str(&line)
        {
            kept.addresses.entry(message).or_insert(address);
        }
        if kept.lines.len() == LINES_KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A JSON log line that announces an address.
#[derive(Deserialize)]
struct Line {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    message: String,
    address: SocketAddr,
}
