//! The access log: one line for each answer that is this side's fault, up to a bound, and for a sample of
//! the others.
//!
//! Whether there is a line is decided by a counter before anything is formatted. A line has no body
//! and no header but the request id.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::peer::{Peer, TrustedProxies};

/// Lines about answers of 500 and above, in one second.
const FAILURES_MAX: u64 = 100;

/// Chooses the answers that are logged, and writes their lines.
pub(crate) struct AccessLog {
    proxies: TrustedProxies,
    /// One answer of so many is logged; 0 for none.
    sample: u64,
    answers: AtomicU64,
    failures: PerSecond,
    left_out: AtomicU64,
}

/// One answer, as its line shows it.
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    /// The code of a refusal.
    pub(crate) code: Option<&'a str>,
    /// The method, or `other` for one that no route takes.
    pub(crate) method: &'a str,
    pub(crate) route: &'a str,
    pub(crate) took: Duration,
    pub(crate) client: Option<IpAddr>,
    pub(crate) request_id: &'a str,
    pub(crate) order_id: Option<Uuid>,
}

impl AccessLog {
    /// A log of one in `sample` answers (0 for none) beside the failures.
    #[must_use]
    pub(crate) fn new(proxies: TrustedProxies, sample: u64) -> Self {
        Self {
            proxies,
            sample,
            answers: AtomicU64::new(0),
            failures: PerSecond::new(FAILURES_MAX),
            left_out: AtomicU64::new(0),
        }
    }

    /// The client of a request, as far as proxies that are trusted say it.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Returns whether an answer with this status has a line.
    pub(crate) fn chooses(&self, status: StatusCode) -> bool {
        if !status.is_server_error() {
            let count = self.answers.fetch_add(1, Ordering::Relaxed);
            return count.checked_rem(self.sample) == Some(0);
        }
        let chosen = self.failures.take();
        if !chosen {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        chosen
    }

    /// Writes the line of an answer, and how many failures had none since the line before.
    pub(crate) fn write(&self, answer: &Answer<'_>) {
        let left_out = match self.left_out.swap(0, Ordering::Relaxed) {
            0 => None,
            left_out => Some(left_out),
        };
        let Answer {
            status,
            code,
            method,
            route,
            took,
            client,
            request_id,
            order_id,
        } = answer;
        let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let status_code = status.as_u16();
        let (client, order_id) = (
            client.map(tracing::field::display),
            order_id.map(tracing::field::display),
        );
        // The level of an event is a constant.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    status = status_code,
                    code,
                    method,
                    route,
                    duration_us,
                    client,
                    request_id,
                    order_id,
                    left_out,
                    "answered"
                )
            };
        }
        if status.is_server_error() {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

/// A bound on how often something happens in a second.
struct PerSecond {
    max: u64,
    since: Instant,
    /// The second in the upper half, how often it happened in it in the lower.
    window: AtomicU64,
}

impl PerSecond {
    fn new(max: u64) -> Self {
        Self {
            max,
            since: Instant::now(),
            window: AtomicU64::new(0),
        }
    }

    /// Returns whether it may happen once more.
    fn take(&self) -> bool {
        self.take_at(self.since.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |window: u64| match (window >> 32, window & u64::from(u32::MAX)) {
            (current, _) if current < second => Some((second << 32) + 1),
            (_, count) if count < self.max => Some(window + 1),
            _ => None,
        };
        self.window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(log: &AccessLog, status: StatusCode, answers: usize) -> usize {
        (0..answers).filter(|_| log.chooses(status)).count()
    }

    #[test]
    fn one_of_so_many_answers_is_chosen_and_none_of_zero() {
        let log = |sample| AccessLog::new(TrustedProxies(Vec::new()), sample);
        assert_eq!(chosen(&log(100), StatusCode::OK, 1_000), 10);
        assert_eq!(chosen(&log(1), StatusCode::NOT_FOUND, 1_000), 1_000);
        assert_eq!(chosen(&log(0), StatusCode::OK, 1_000), 0);
    }

    #[test]
    fn failures_are_chosen_without_sampling_up_to_a_hundred_a_second() {
        let log = AccessLog::new(TrustedProxies(Vec::new()), 0);
        let chosen = chosen(&log, StatusCode::SERVICE_UNAVAILABLE, 1_000);
        let seconds = log.failures.since.elapsed().as_secs() + 1;
        let most = usize::try_from(seconds * FAILURES_MAX).expect("a count");
        assert!((100..=most).contains(&chosen), "{chosen}");
        let left_out = log.left_out.load(Ordering::Relaxed);
        assert_eq!(usize::try_from(left_out).expect("a count"), 1_000 - chosen);
    }

    #[test]
    fn a_new_second_has_room_again_and_an_old_one_does_not_come_back() {
        let bound = PerSecond::new(2);
        let taken = [0, 0, 0, 5, 4, 5].map(|second| bound.take_at(second));
        assert_eq!(taken, [true, true, false, true, true, false]);
    }
}
