//! The published keys of an identity provider, read again and again. While they cannot be read, the last ones count.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use hotrow_shared::metrics as list;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{fetch::Fetcher, keys::KeySet, settings::JwksAt};

/// How often the keys are read.
const REFRESH_INTERVAL: Duration = Duration::from_mins(10);
/// How often after a read that failed, and how often because a token names a key that is not known.
const ASK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a request waits for the keys that it had read: a token by a new key is not refused because it is the first.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often the metric of their age is set.
const AGE_INTERVAL: Duration = Duration::from_secs(5);

/// The keys, and a way to have them read.
#[derive(Clone)]
pub(super) struct Jwks {
    state: watch::Receiver<State>,
    asked: Arc<Notify>,
}

#[derive(Clone)]
struct State {
    keys: Arc<KeySet>,
    /// How many reads have ended.
    reads: u64,
    is_reading: bool,
    /// Whether the last read gave keys.
    was_read: bool,
    /// When a key that is not known has them read again.
    asked_from: Instant,
}

impl Jwks {
    /// Reads the keys, and goes on with it until `shutdown`.
    ///
    /// # Errors
    /// A file cannot be read, or gives no keys. (A server may come back: until then, no token can be verified.)
    pub(super) async fn start(at: JwksAt, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let is_file = matches!(at, JwksAt::File(_));
        let fetcher = Fetcher::new(at).context("the system's certificates cannot be read")?;
        let now = Instant::now();
        let (sender, state) = watch::channel(State {
            keys: Arc::default(),
            reads: 0,
            is_reading: false,
            was_read: false,
            asked_from: now,
        });
        let asked = Arc::new(Notify::new());
        let mut reader = Reader {
            fetcher,
            state: sender,
            asked: Arc::clone(&asked),
            last_success: now,
        };
        let first = reader.read().await;
        let was_read = first.is_ok();
        match first {
            Ok(()) => {}
            Err(error) if is_file => return Err(error.context("AUTH_JWKS")),
            Err(error) => warn(&error),
        }
        tokio::spawn(reader.run(was_read, shutdown.clone()));
        Ok(Self { state, asked })
    }

    /// The keys by now.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.borrow().keys)
    }

    /// Has the keys read because one is missing in `seen`, at most every [`ASK_INTERVAL`], and waits a moment for them.
    /// Returns the keys of the last read, which may be the same, or none if it failed or is still under way.
    pub(super) async fn newer_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let mut state = self.state.clone();
        let reads = {
            let state = state.borrow();
            if !Arc::ptr_eq(&state.keys, seen) {
                return Some(Arc::clone(&state.keys));
            }
            self.asked.notify_one();
            if !state.is_reading && Instant::now() < state.asked_from {
                return state.was_read.then(|| Arc::clone(&state.keys));
            }
            state.reads
        };
        let read = state.wait_for(|state| state.reads > reads);
        let state = timeout(WAIT_MAX, read).await.ok()?.ok()?;
        state.was_read.then(|| Arc::clone(&state.keys))
    }
}

/// The task that reads.
struct Reader {
    fetcher: Fetcher,
    state: watch::Sender<State>,
    asked: Arc<Notify>,
    /// When the keys were read last; at the start, when it began.
    last_success: Instant,
}

impl Reader {
    async fn run(mut self, was_read: bool, shutdown: CancellationToken) {
        let age = list::JWKS_AGE.gauge(&[]);
        let mut due = next(was_read);
        loop {
            let mut is_asked = false;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.asked.notified() => is_asked = true,
                () = sleep_until(due.min(Instant::now() + AGE_INTERVAL)) => {}
            }
            if is_asked {
                due = due.min(self.state.borrow().asked_from.max(Instant::now()));
            }
            if Instant::now() >= due {
                let Some(read) = shutdown.run_until_cancelled(self.read()).await else {
                    return;
                };
                due = next(read.is_ok());
                if let Err(error) = &read {
                    warn(error);
                }
            }
            age.set(self.last_success.elapsed().as_secs_f64());
        }
    }

    /// Reads the keys. If that fails, those from before go on.
    async fn read(&mut self) -> anyhow::Result<()> {
        let is_first = self.state.borrow().reads == 0;
        self.state.send_modify(|state| {
            state.is_reading = true;
            if !is_first {
                state.asked_from = Instant::now() + ASK_INTERVAL;
            }
        });
        let before = Arc::clone(&self.state.borrow().keys);
        let read = self.fetcher.read().await.map_err(anyhow::Error::from);
        let read = read.and_then(|document| Ok(before.next(&document)?));
        let (keys, outcome) = match read {
            Ok(keys) => (Arc::new(keys), Ok(())),
            Err(error) => (Arc::clone(&before), Err(error)),
        };
        if outcome.is_ok() {
            self.last_success = Instant::now();
            tracing::debug!(keys = keys.len(), "the keys of AUTH_JWKS are read");
        }
        // Before the new ones are there, so that whoever sees those is not let in by what an old one verified.
        if !Arc::ptr_eq(&before, &keys) {
            before.replaced_by(&keys);
        }
        self.state.send_modify(|state| {
            state.keys = Arc::clone(&keys);
            state.reads += 1;
            state.is_reading = false;
            state.was_read = outcome.is_ok();
        });
        outcome
    }
}

fn next(was_read: bool) -> Instant {
    Instant::now()
        + if was_read {
            REFRESH_INTERVAL
        } else {
            ASK_INTERVAL
        }
}

fn warn(error: &anyhow::Error) {
    tracing::warn!(
        error = format!("{error:#}"),
        "the keys of AUTH_JWKS cannot be read: those from before count, and they are read again in {ASK_INTERVAL:?}"
    );
}
