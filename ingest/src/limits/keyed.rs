//! One limit for each of many callers, and for each of many addresses.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use hotrow_shared::metrics as list;
use metrics::Counter;

use super::callers::Callers;
use crate::{
    http::{
        exceeded::Exceeded,
        peer::{counted_part, network_part},
    },
    settings::RateLimit,
};

/// Most callers that one limit remembers.
const CALLERS_MAX: u64 = 200_000;
/// How many times the limit of one address the /48 around an IPv6 client has. Providers give a customer a /56 or a
/// whole /48, which is 65,536 addresses as they are counted here; and behind one /48 there may be a whole company.
const NETWORK_FACTOR: NonZeroU32 = NonZeroU32::new(16).expect("not 0");

/// The name of a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// In the headers of a refusal and as the label of its metric.
    name: &'static str,
    /// What there is too much of.
    what: &'static str,
}

impl Policy {
    pub(super) const fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what }
    }

    /// The series of what the limit refuses, which exists where the limit is off, too.
    pub(super) fn refused(self) -> Counter {
        list::RATE_LIMITED.counter(&[("limit", self.name)])
    }

    /// The limit is reached, and the next one is possible after `wait`.
    pub(super) fn exceeded(self, limit: RateLimit, wait: Duration) -> Exceeded {
        Exceeded {
            policy: self.name,
            what: self.what,
            quota: limit.burst.get(),
            window: limit.window(),
            wait,
        }
    }
}

/// One limit for each of many callers, who are known by a hash: names may be long, and are the
/// clients' to choose.
pub(super) struct Keyed {
    policy: Policy,
    refused: Counter,
    hasher: RandomState,
    limited: Option<(RateLimit, Limiter)>,
}

type Limiter = RateLimiter<u64, Callers, DefaultClock>;

impl Keyed {
    /// A limit with everybody's full allowance, or none.
    pub(super) fn new(policy: Policy, limit: Option<RateLimit>) -> Self {
        Self {
            policy,
            refused: policy.refused(),
            hasher: RandomState::new(),
            limited: limit.map(|limit| {
                let callers = Callers::new(CALLERS_MAX, limit.window());
                (limit, limiter(limit, callers))
            }),
        }
    }

    /// Counts one of a caller.
    ///
    /// # Errors
    /// The caller's limit is reached.
    pub(super) fn count<K: Hash + ?Sized>(&self, caller: &K) -> Result<(), Exceeded> {
        let Some((limit, limiter)) = &self.limited else {
            return Ok(());
        };
        let caller = self.hasher.hash_one(caller);
        let now = DefaultClock::default().now();
        limiter.check_key(&caller).map_err(|until| {
            self.refused.increment(1);
            self.policy.exceeded(*limit, until.wait_time_from(now))
        })
    }
}

/// One limit for each client address, where an IPv6 client is its /64; the /48 around it has a limit, too.
pub(super) struct ByAddress {
    address: Keyed,
    network: Keyed,
}

impl ByAddress {
    /// A limit of addresses, under the first name, and of networks, under the second.
    pub(super) fn new([address, network]: [Policy; 2], limit: Option<RateLimit>) -> Self {
        Self {
            address: Keyed::new(address, limit),
            network: Keyed::new(network, limit.map(|limit| limit.times(NETWORK_FACTOR))),
        }
    }

    /// Counts one of a client. What its address may not do does not count for its neighbours.
    ///
    /// # Errors
    /// The limit of the address or of its network is reached.
    pub(super) fn count(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.address.count(&counted_part(client))?;
        network_part(client).map_or(Ok(()), |network| self.network.count(&network))
    }
}

fn limiter(limit: RateLimit, callers: Callers) -> Limiter {
    RateLimiter::new(quota(limit), callers, DefaultClock::default())
}

/// A limit as governor has it.
pub(super) fn quota(limit: RateLimit) -> Quota {
    // A period of at least a second over a u32 count is at least a nanosecond when rounded up.
    let one = (limit.period / limit.count.get()).max(Duration::from_nanos(1));
    Quota::with_period(one)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
        .allow_burst(limit.burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [Policy; 2] = [Policy::new("one", ""), Policy::new("many", "")];

    fn once_an_hour() -> RateLimit {
        RateLimit {
            count: NonZeroU32::MIN,
            period: Duration::from_hours(1),
            burst: NonZeroU32::MIN,
        }
    }

    #[test]
    fn a_full_limit_forgets_the_oldest_and_remembers_the_others() {
        const MAX: u64 = 1_000;
        let callers = Callers::new(MAX, Duration::from_hours(1));
        let limiter = limiter(once_an_hour(), callers.clone());
        for caller in 0..MAX {
            limiter.check_key(&caller).expect("each comes once");
            assert_eq!(callers.remembered(), caller + 1);
        }
        // To be refused is to be seen, so the first one is not the oldest any more.
        limiter.check_key(&0).expect_err("it comes again");
        for newer in MAX..MAX + 100 {
            limiter.check_key(&newer).expect("each comes once");
            assert_eq!(callers.remembered(), MAX);
        }
        for known in (101..MAX + 100).chain([0]) {
            limiter.check_key(&known).expect_err("it was here");
        }
        limiter.check_key(&1).expect("the oldest is forgotten");
    }

    #[test]
    fn a_flood_never_makes_a_limit_remember_more_than_it_may() {
        const MAX: u64 = 100;
        let callers = Callers::new(MAX, Duration::from_hours(1));
        let limiter = limiter(once_an_hour(), callers.clone());
        for caller in 0..1_000 * MAX {
            limiter.check_key(&caller).expect("each comes once");
        }
        assert_eq!(callers.remembered(), MAX);
        limiter
            .check_key(&(1_000 * MAX - 1))
            .expect_err("it was here");
    }

    #[test]
    fn whoever_was_away_until_the_allowance_was_whole_is_forgotten() {
        let callers = Callers::new(100, Duration::from_millis(1));
        let limiter = limiter(once_an_hour(), callers.clone());
        limiter.check_key(&1).expect("the first");
        let forgotten = (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            callers.remembered() == 0
        });
        assert!(forgotten);
    }

    #[test]
    fn a_network_of_ipv6_has_a_limit_of_its_own_and_one_address_does_not_use_it_up() {
        let limit = ByAddress::new(POLICIES, Some(once_an_hour()));
        let count = |text: &str| limit.count(text.parse().expect("an address"));
        for _ in 0..100 {
            // Refused from the second on.
            let _ = count("2001:db8:1:0::1");
        }
        for subnet in 1..16 {
            count(&format!("2001:db8:1:{subnet:x}::1")).expect("one of sixteen");
        }
        let exceeded = count("2001:db8:1:ffff::1").expect_err("the seventeenth");
        assert_eq!((exceeded.policy, exceeded.quota), ("many", 16));
        count("2001:db8:2::1").expect("another network");
        for host in 0..100 {
            count(&format!("198.51.100.{host}")).expect("an IPv4 address has no network");
        }
    }
}
