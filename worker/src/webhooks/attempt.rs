//! What an attempt came to, and what follows from it. Pure: no clock, no chance, no I/O.

use std::time::Duration;

/// The pauses between attempts. After the last there is no other.
const RETRIES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(10),
];
/// How much longer than that a pause may be, by chance: what failed together does not come back together.
const JITTER: f64 = 0.2;
/// The longest wait that a receiver can ask for one delivery.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// The longest wait that it can ask for all of them.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// What came of a request, which is a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx.
    Delivered,
    /// 3xx: redirects are not followed.
    Redirect,
    /// 410: the endpoint wants no more.
    Gone,
    /// 429.
    TooManyRequests,
    /// Another 4xx.
    ClientError,
    /// 5xx, and whatever is no status.
    ServerError,
    /// No answer in time.
    Timeout,
    /// The host's name has no address.
    Unresolved,
    /// Only addresses that webhooks must not reach.
    RefusedAddress,
    /// No TLS, or a certificate that nobody vouches for.
    Tls,
    /// No connection, or one that broke.
    Connection,
}

impl Outcome {
    pub(super) const ALL: [Self; 11] = [
        Self::Delivered,
        Self::Redirect,
        Self::Gone,
        Self::TooManyRequests,
        Self::ClientError,
        Self::ServerError,
        Self::Timeout,
        Self::Unresolved,
        Self::RefusedAddress,
        Self::Tls,
        Self::Connection,
    ];

    /// The word in the database, in metrics and in JSON.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Redirect => "redirect",
            Self::Gone => "gone",
            Self::TooManyRequests => "http_429",
            Self::ClientError => "http_4xx",
            Self::ServerError => "http_5xx",
            Self::Timeout => "timeout",
            Self::Unresolved => "unresolved",
            Self::RefusedAddress => "refused_address",
            Self::Tls => "tls",
            Self::Connection => "connection",
        }
    }

    /// What an answer with this status is.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirect,
            410 => Self::Gone,
            429 => Self::TooManyRequests,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The receiver has it.
    Delivered,
    /// It is tried again after this time.
    Again(Duration),
    /// It failed for good.
    GivenUp,
}

/// What follows from an attempt, after so many that failed before it. `chance` is from 0 to 1.
pub(super) fn next(
    outcome: Outcome,
    failed_before: usize,
    retry_after: Option<Duration>,
    chance: f64,
) -> Next {
    match outcome {
        Outcome::Delivered => Next::Delivered,
        Outcome::Gone => Next::GivenUp,
        _ => RETRIES.get(failed_before).map_or(Next::GivenUp, |pause| {
            let pause = pause.mul_f64(1.0 + JITTER * chance);
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            Next::Again(pause.max(asked))
        }),
    }
}

/// How long the whole endpoint is left alone, if its answer asks for that. Otherwise every delivery that is due would
/// use up an attempt to hear the same.
pub(super) fn pause(status: Option<u16>, retry_after: Option<Duration>) -> Option<Duration> {
    let is_about_all = matches!(status, Some(429 | 503));
    retry_after
        .filter(|_| is_about_all)
        .map(|wait| wait.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_delivery_is_tried_eight_times_in_28_hours() {
        let waits: Vec<_> = (0..7)
            .map(|failed| next(Outcome::ServerError, failed, None, 0.0))
            .collect();
        let seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        assert_eq!(waits, seconds.map(|it| Next::Again(SECOND * it)));
        assert_eq!(next(Outcome::Timeout, 7, None, 0.0), Next::GivenUp);
    }

    #[test]
    fn gone_is_final_and_a_success_is_one_whatever_came_before() {
        assert_eq!(next(Outcome::Gone, 0, Some(SECOND), 0.0), Next::GivenUp);
        assert_eq!(next(Outcome::Delivered, 7, None, 0.0), Next::Delivered);
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_within_a_day() {
        let wait = |asked| next(Outcome::TooManyRequests, 0, Some(asked), 0.0);
        assert_eq!(wait(SECOND * 120), Next::Again(SECOND * 120));
        assert_eq!(wait(SECOND), Next::Again(SECOND * 5));
        assert_eq!(wait(Duration::MAX), Next::Again(RETRY_AFTER_MAX));
    }

    #[test]
    fn only_an_answer_that_is_about_all_requests_pauses_the_endpoint() {
        assert_eq!(pause(Some(429), Some(SECOND)), Some(SECOND));
        assert_eq!(pause(Some(503), Some(Duration::MAX)), Some(PAUSE_MAX));
        assert_eq!(pause(Some(500), Some(SECOND)), None);
        assert_eq!(pause(Some(429), None), None);
        assert_eq!(pause(None, None), None);
    }

    proptest! {
        #[test]
        fn jitter_makes_a_pause_longer_by_a_fifth_at_most(failed in 0usize..7, chance in 0.0..=1.0) {
            let Next::Again(pause) = next(Outcome::Connection, failed, None, chance) else {
                return Err(TestCaseError::fail("it is tried again"));
            };
            prop_assert!(pause >= RETRIES[failed]);
            prop_assert!(pause <= RETRIES[failed].mul_f64(1.0 + JITTER));
        }

        #[test]
        fn every_status_is_something(status in 0u16..=999) {
            let is_success = (200..300).contains(&status);
            prop_assert_eq!(Outcome::of_status(status) == Outcome::Delivered, is_success);
        }
    }
}
