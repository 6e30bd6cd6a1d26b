//! Rate limits as settings: `100/s burst 200`, or `off`.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

/// The limits of purchases, reads and refused tokens; none is off.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Per client address.
    pub ip: Option<RateLimit>,
    /// Per customer id.
    pub customer: Option<RateLimit>,
    /// Altogether.
    pub global: Option<RateLimit>,
    /// Reads per client address.
    pub reads: Option<RateLimit>,
    /// Refused tokens per client address.
    pub logins: Option<RateLimit>,
}

/// A limit: so many per period on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many in a period.
    pub count: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// How many at once.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// How long it takes until a used-up burst is whole again.
    pub(crate) fn window(self) -> Duration {
        // 2^32 hours, at most, are far from what a duration can hold.
        self.period * self.burst.get() / self.count.get()
    }

    /// So many times the limit.
    pub(crate) fn times(self, factor: NonZeroU32) -> Self {
        Self {
            count: self.count.saturating_mul(factor),
            period: self.period,
            burst: self.burst.saturating_mul(factor),
        }
    }
}

/// The longest that a burst may take to be whole again: for as long a caller is remembered.
const WINDOW_MAX: Duration = Duration::from_hours(30 * 24);

/// A limit as it is written.
pub(super) struct Limit(pub(super) Option<RateLimit>);

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be off, or a limit such as 100/s burst 200 (s, m or h)";
        if text.trim() == "off" {
            return Ok(Self(None));
        }
        let (rate, burst) = text
            .split_once("burst")
            .map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (count, unit) = rate.trim().split_once('/').ok_or(FORM)?;
        let period = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(FORM),
        };
        let count = count.trim().parse().map_err(|_| FORM)?;
        let burst = burst
            .map_or(Ok(count), |burst| burst.trim().parse())
            .map_err(|_| FORM)?;
        let limit = RateLimit {
            count,
            period: Duration::from_secs(period),
            burst,
        };
        if limit.window() > WINDOW_MAX {
            return Err("must let a burst be whole again within 30 days");
        }
        Ok(Self(Some(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Option<(u32, u64, u32)>, &'static str> {
        text.parse::<Limit>().map(|limit| {
            limit
                .0
                .map(|l| (l.count.get(), l.period.as_secs(), l.burst.get()))
        })
    }

    #[test]
    fn a_limit_is_a_rate_with_a_burst_or_off() {
        assert_eq!(limit("100/s burst 200"), Ok(Some((100, 1, 200))));
        assert_eq!(limit("30/m"), Ok(Some((30, 60, 30))));
        assert_eq!(limit("1/h burst 720"), Ok(Some((1, 3_600, 720))));
        assert_eq!(limit("off"), Ok(None));
        for wrong in [
            "",
            "0/s",
            "10",
            "10/d",
            "10/s burst 0",
            "-1/s",
            "10/s burst",
            "1/h burst 721",
            "1/h burst 4294967295",
        ] {
            assert!(limit(wrong).is_err(), "{wrong:?}");
        }
    }
}
