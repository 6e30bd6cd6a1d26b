//! A clock that rings on time to a few hundredths of a millisecond; Tokio's rounds up to the next whole one.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Linux lets a sleeping thread oversleep by this much (`PR_SET_TIMERSLACK`), so the clock goes to
/// sleep for that much less and waits out the rest awake.
const TIMER_SLACK: Duration = Duration::from_micros(50);

/// A handle to a thread that keeps time; the thread ends with its last handle.
#[derive(Clone)]
pub(super) struct Clock {
    alarms: mpsc::Sender<Alarm>,
}

struct Alarm {
    due: Instant,
    bell: oneshot::Sender<()>,
}

impl Clock {
    pub(super) fn start() -> Self {
        let (alarms, new_alarms) = mpsc::channel();
        thread::spawn(move || ring_alarms(&new_alarms));
        Self { alarms }
    }

    /// Waits until `due`; not at all if that is past.
    pub(super) async fn until(&self, due: Instant) {
        if due <= Instant::now() {
            return;
        }
        let (bell, rings) = oneshot::channel();
        // The thread outlives its handles, this one among them.
        if self.alarms.send(Alarm { due, bell }).is_ok() {
            let _ = rings.await;
        }
    }
}

fn ring_alarms(new_alarms: &Receiver<Alarm>) {
    let mut pending = BinaryHeap::<Reverse<Alarm>>::new();
    loop {
        let next = match pending.peek() {
            None => new_alarms
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(first)) => {
                let sleep = first
                    .due
                    .saturating_duration_since(Instant::now())
                    .saturating_sub(TIMER_SLACK);
                new_alarms.recv_timeout(sleep)
            }
        };
        match next {
            Ok(alarm) => pending.push(Reverse(alarm)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while pending
            .peek()
            .is_some_and(|Reverse(first)| first.due <= Instant::now())
        {
            if let Some(Reverse(alarm)) = pending.pop() {
                // Whoever set the alarm may be gone.
                let _ = alarm.bell.send(());
            }
        }
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Alarm {}
