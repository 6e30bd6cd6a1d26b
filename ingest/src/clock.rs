//! The clocks: this machine's names the day of an order, and is an argument, so that midnight can be tested. By the
//! database's, sales open and close.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};
use hotrow_shared::clock_offset::DatabaseTime;

/// Tells the time.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Stands where it is put, in milliseconds since 1970.
    Set(Arc<AtomicU64>),
}

impl Clock {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
            Self::Set(ms) => ms.load(Ordering::Relaxed),
        }
    }
}

/// Tells the database's time.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseClock {
    /// A machine's clock that was put somewhere counts as the database's, too.
    pub(crate) clock: Clock,
    pub(crate) time: DatabaseTime,
}

impl DatabaseClock {
    /// The database's time, as this process knows it, to the millisecond.
    #[must_use]
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let ms = match &self.clock {
            Clock::System => self.time.now_ms(),
            set @ Clock::Set(_) => i64::try_from(set.now_ms()).unwrap_or(i64::MAX),
        };
        DateTime::from_timestamp_millis(ms).unwrap_or_default()
    }

    /// The same in milliseconds since 1970: the time of acceptance of what enters a lane now.
    #[must_use]
    pub(crate) fn accepted_ms(&self) -> i64 {
        self.now().timestamp_millis()
    }
}
