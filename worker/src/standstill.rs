//! Standstill: after a partition stood still, nothing expires in it for a while.
//!
//! A payment that was accepted before the end of a hold lies before the command that ends it, in the same queue, so
//! it is settled first however long that takes. This is the net below that rule: where a batch had to wait for long,
//! because the database was away or the process was stopped, payments may have been under way in other ways, too.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

/// How long a partition with messages may take for its next commit before it counts as standing still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Whether holds may expire in a partition.
#[derive(Debug)]
pub(crate) struct Standstill {
    grace: TimeDelta,
    not_before: Option<Instant>,
    /// Whether a batch has come.
    has_begun: bool,
}

impl Standstill {
    /// Of a consumer that begins: nothing is known against its partition.
    pub(crate) fn new(grace: TimeDelta) -> Self {
        Self {
            grace,
            not_before: None,
            has_begun: false,
        }
    }

    /// Since when a batch has waited that came at `came`. The first one may have waited for another consumer: as long as
    /// `age`, since its oldest command was accepted.
    pub(crate) fn since(&mut self, came: Instant, age: impl FnOnce() -> Duration) -> Instant {
        if std::mem::replace(&mut self.has_begun, true) {
            return came;
        }
        came.checked_sub(age().min(STANDSTILL)).unwrap_or(came)
    }

    /// The grace of holds for a batch that came at `since`.
    pub(crate) fn grace(&self, since: Instant) -> Grace {
        Grace {
            after_end: self.grace,
            not_before: self.not_before,
            since,
        }
    }

    /// Notes that a batch that came at `since` is settled.
    pub(crate) fn note_settled(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= STANDSTILL {
            self.not_before = Some(now + self.grace.to_std().unwrap_or_default());
        }
    }
}

/// How long after its end a hold expires in one batch, as long as that does not stand still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grace {
    after_end: TimeDelta,
    not_before: Option<Instant>,
    since: Instant,
}

impl Grace {
    /// The grace, if the batch is settled now; none if nothing may expire in it.
    pub(crate) fn at(self, now: Instant) -> Option<TimeDelta> {
        let stood_still = now.duration_since(self.since) >= STANDSTILL;
        let is_over = self.not_before.is_none_or(|not_before| now >= not_before);
        (!stood_still && is_over).then_some(self.after_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_expires_in_a_partition_that_stood_still_until_the_grace_after_its_next_commit() {
        let grace = TimeDelta::seconds(8);
        let mut standstill = Standstill::new(grace);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(standstill.grace(start).at(after(1)), Some(grace));
        standstill.note_settled(start, after(2));
        assert_eq!(
            standstill.grace(after(60)).at(after(61)),
            Some(grace),
            "it was quiet"
        );

        assert_eq!(standstill.grace(after(60)).at(after(100)), None);
        standstill.note_settled(after(60), after(101));
        assert_eq!(standstill.grace(after(101)).at(after(102)), None);
        assert_eq!(standstill.grace(after(108)).at(after(109)), Some(grace));
    }

    #[test]
    fn what_waited_for_the_consumer_before_stood_still() {
        let grace = TimeDelta::seconds(8);
        let came = Instant::now() + Duration::from_mins(1);
        let soon = came + Duration::from_secs(1);
        for (age, expected) in [(120, None), (10, None), (1, Some(grace)), (0, Some(grace))] {
            let mut standstill = Standstill::new(grace);
            let since = standstill.since(came, || Duration::from_secs(age));
            assert_eq!(standstill.grace(since).at(soon), expected, "{age} s");
        }
        let mut standstill = Standstill::new(grace);
        let first = standstill.since(came, || Duration::from_mins(2));
        standstill.note_settled(first, soon);
        let later = soon + Duration::from_secs(9);
        let second = standstill.since(later, || unreachable!("only the first one has waited"));
        assert_eq!(standstill.grace(second).at(later), Some(grace));
        assert_eq!(standstill.grace(soon).at(soon), None);
    }
}
