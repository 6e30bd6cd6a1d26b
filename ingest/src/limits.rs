//! Limits of purchases per client address, per customer and altogether, and of refused tokens per client address.
//!
//! They are counted in this process alone: behind a balancer the limit of an installation is the
//! setting times the number of processes.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock, QuantaInstant},
};
use hotrow_shared::order::CustomerId;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{exceeded::Exceeded, peer::counted_part},
    settings::{RateLimit, RateLimits},
};

/// Most callers that one limit remembers, some 50 MB. When more come within one sweep, all are
/// forgotten: a flood of made-up names must not fill the memory.
const CALLERS_MAX: usize = 500_000;
/// How often callers that have their full allowance again are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// What most limits count.
const PURCHASES: &str = "purchases";

/// The limits of this process.
pub(crate) struct Limits {
    ip: Option<Keyed>,
    customer: Option<Keyed>,
    logins: Option<Keyed>,
    global: Option<(RateLimit, DefaultDirectRateLimiter)>,
}

impl Limits {
    /// Limits with their full allowance.
    #[must_use]
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self {
            ip: limits
                .ip
                .map(|limit| Keyed::new("ip", PURCHASES, "from this address", limit)),
            customer: limits
                .customer
                .map(|limit| Keyed::new("customer", PURCHASES, "by this customer", limit)),
            logins: limits
                .logins
                .map(|limit| Keyed::new("logins", "refused tokens", "from this address", limit)),
            global: limits
                .global
                .map(|limit| (limit, RateLimiter::direct(quota(limit)))),
        }
    }

    /// Counts a purchase of a client, before anything is known of it but its address.
    ///
    /// # Errors
    /// The limit of the address or of the whole process is reached.
    pub(crate) fn count_client(&self, client: IpAddr) -> Result<(), Exceeded> {
        if let Some(ip) = &self.ip {
            ip.count(&counted_part(client))?;
        }
        let Some((limit, limiter)) = &self.global else {
            return Ok(());
        };
        let now = DefaultClock::default().now();
        limiter
            .check()
            .map_err(|until| exceeded(("global", PURCHASES, "altogether"), *limit, &until, now))
    }

    /// Counts a token that was refused.
    ///
    /// # Errors
    /// The limit of the address is reached.
    pub(crate) fn count_refused_token(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.logins
            .as_ref()
            .map_or(Ok(()), |limit| limit.count(&counted_part(client)))
    }

    /// Counts a purchase of a customer.
    ///
    /// # Errors
    /// The customer's limit is reached.
    pub(crate) fn count_customer(&self, customer: &CustomerId) -> Result<(), Exceeded> {
        self.customer
            .as_ref()
            .map_or(Ok(()), |limit| limit.count(customer.as_str()))
    }

    /// Forgets callers that have their full allowance again, until `shutdown`.
    pub(crate) async fn sweep(self: Arc<Self>, shutdown: CancellationToken) {
        while shutdown
            .run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL))
            .await
            .is_some()
        {
            for limit in [&self.ip, &self.customer, &self.logins]
                .into_iter()
                .flatten()
            {
                limit.sweep(CALLERS_MAX);
            }
        }
    }
}

/// One limit for each of many callers, who are known by a hash: names may be long, and are the
/// clients' to choose.
struct Keyed {
    policy: &'static str,
    what: &'static str,
    whose: &'static str,
    limit: RateLimit,
    hasher: RandomState,
    limiter: RwLock<Arc<DefaultKeyedRateLimiter<u64>>>,
}

impl Keyed {
    fn new(
        policy: &'static str,
        what: &'static str,
        whose: &'static str,
        limit: RateLimit,
    ) -> Self {
        Self {
            policy,
            what,
            whose,
            limit,
            hasher: RandomState::new(),
            limiter: RwLock::new(Arc::new(RateLimiter::keyed(quota(limit)))),
        }
    }

    fn count<K: Hash + ?Sized>(&self, caller: &K) -> Result<(), Exceeded> {
        let caller = self.hasher.hash_one(caller);
        let now = DefaultClock::default().now();
        let checked = self.limiter().check_key(&caller);
        let named = (self.policy, self.what, self.whose);
        checked.map_err(|until| exceeded(named, self.limit, &until, now))
    }

    fn limiter(&self) -> Arc<DefaultKeyedRateLimiter<u64>> {
        Arc::clone(&self.limiter.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn sweep(&self, callers_max: usize) {
        let limiter = self.limiter();
        limiter.retain_recent();
        if limiter.len() > callers_max {
            tracing::warn!(
                policy = self.policy,
                "more callers than can be remembered: all are forgotten"
            );
            *self.limiter.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::new(RateLimiter::keyed(quota(self.limit)));
        } else {
            limiter.shrink_to_fit();
        }
    }
}

fn quota(limit: RateLimit) -> Quota {
    // A period of at least a second over a u32 count is at least a nanosecond when rounded up.
    let one = (limit.period / limit.count.get()).max(Duration::from_nanos(1));
    Quota::with_period(one)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
        .allow_burst(limit.burst)
}

fn exceeded(
    (policy, what, whose): (&'static str, &'static str, &'static str),
    limit: RateLimit,
    until: &NotUntil<QuantaInstant>,
    now: QuantaInstant,
) -> Exceeded {
    Exceeded {
        policy,
        what,
        whose,
        quota: limit.burst.get(),
        window: limit.period * limit.burst.get() / limit.count.get(),
        wait: until.wait_time_from(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(count: u32, burst: u32) -> RateLimit {
        let (count, burst) = (NonZeroU32::new(count), NonZeroU32::new(burst));
        RateLimit {
            count: count.expect("not 0"),
            period: Duration::from_hours(1),
            burst: burst.expect("not 0"),
        }
    }

    #[test]
    fn a_caller_gets_the_burst_and_then_waits_while_others_go_on() {
        let limits = Limits::new(RateLimits {
            ip: Some(limit(1, 3)),
            customer: None,
            logins: None,
            global: None,
        });
        let (one, other) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        for _ in 0..3 {
            limits.count_client(one).expect("within the burst");
        }
        let exceeded = limits.count_client(one).expect_err("over the burst");
        let [policy, state] = exceeded.headers().map(|(_, value)| value);
        assert_eq!(policy, "\"ip\";q=3;w=10800");
        assert!(
            state
                .to_str()
                .is_ok_and(|text| text.starts_with("\"ip\";r=0;t=3")),
            "{state:?}"
        );
        limits.count_client(other).expect("another caller");
    }

    #[test]
    fn a_flood_of_callers_is_forgotten() {
        let keyed = Keyed::new("customer", "", "", limit(1, 1));
        for caller in 0..=1_000 {
            keyed.count(&caller).expect("each comes once");
        }
        keyed.sweep(1_000);
        assert_eq!(keyed.limiter().len(), 0);
    }
}
