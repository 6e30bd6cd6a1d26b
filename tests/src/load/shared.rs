//! What the threads of a load share.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{Load, arrivals, report::Window};

/// What the threads share: what there is to ask for, and the counters of the display.
pub(super) struct Shared {
    pub(super) load: Load,
    pub(super) started: Instant,
    pub(super) window: Option<Window>,
    /// When the orders of an open loop are due, after the start.
    arrivals: Option<Vec<Duration>>,
    next: AtomicU64,
    pub(super) stop: AtomicBool,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unanswered: AtomicU64,
}

/// One request to send.
pub(super) struct Turn {
    /// Its number.
    pub(super) number: u64,
    /// When it is due, in an open loop.
    pub(super) due: Option<Instant>,
}

impl Shared {
    pub(super) fn new(load: Load) -> Self {
        let arrivals = load.per_second.zip(load.length()).map(|(rate, length)| {
            let due = arrivals::draw(rate, length);
            if load.are_most_early {
                arrivals::hurry(due, length)
            } else {
                due
            }
        });
        Self {
            arrivals,
            started: Instant::now(),
            window: load.window(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            load,
        }
    }

    /// The next request to send, while there is one.
    pub(super) fn next_turn(&self) -> Option<Turn> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match (&self.arrivals, self.load.length()) {
            (Some(arrivals), _) => {
                let due = arrivals.get(usize::try_from(turn).ok()?)?;
                Some(self.started + *due)
            }
            (None, Some(length)) if self.started.elapsed() >= length => return None,
            (None, _) => None,
        };
        (turn < self.load.requests()).then(|| Turn {
            number: self.load.first_order.wrapping_add(turn),
            due,
        })
    }
}
