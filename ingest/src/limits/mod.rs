//! Limits per client address, per customer and altogether.
//!
//! They are counted in this process alone: behind a balancer the limit of an installation is the
//! setting times the number of processes.

mod callers;
mod keyed;
pub(crate) mod reads;

use std::net::IpAddr;

use governor::{
    DefaultDirectRateLimiter, RateLimiter,
    clock::{Clock, DefaultClock},
};
use hotrow_shared::order::CustomerId;

use self::keyed::{ByAddress, Keyed, Policy, quota};
use crate::{
    http::exceeded::Exceeded,
    settings::{RateLimit, RateLimits},
};

/// Purchases from an address, and from a network of IPv6 addresses.
const IP: [Policy; 2] = [
    Policy::new("ip", "purchases from this address"),
    Policy::new("ip_48", "purchases from this network"),
];
const CUSTOMER: Policy = Policy::new("customer", "purchases by this customer");
const CHANGES: Policy = Policy::new("changes", "changes by this customer");
const GLOBAL: Policy = Policy::new("global", "purchases altogether");
/// Reads from an address, and from a network of IPv6 addresses.
const READS: [Policy; 2] = [
    Policy::new("reads", "reads from this address"),
    Policy::new("reads_48", "reads from this network"),
];

/// Refused tokens from an address, and from a network of IPv6 addresses.
const LOGINS: [Policy; 2] = [
    Policy::new("logins", "refused tokens from this address"),
    Policy::new("logins_48", "refused tokens from this network"),
];

/// The limits of this process.
pub(crate) struct Limits {
    ip: ByAddress,
    customer: Keyed,
    changes: Keyed,
    global: Global,
    reads: ByAddress,
    logins: ByAddress,
}

impl Limits {
    /// Limits with their full allowance.
    #[must_use]
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self {
            ip: ByAddress::new(IP, limits.ip),
            customer: Keyed::new(CUSTOMER, limits.customer),
            changes: Keyed::new(CHANGES, limits.customer),
            global: Global::new(limits.global),
            reads: ByAddress::new(READS, limits.reads),
            logins: ByAddress::new(LOGINS, limits.logins),
        }
    }

    /// Counts a purchase of a client, before anything is known of it but its address.
    ///
    /// # Errors
    /// The limit of the address, of its network or of the whole process is reached.
    pub(crate) fn count_client(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.ip.count(client)?;
        self.global.count()
    }

    /// Counts a purchase of a customer.
    ///
    /// # Errors
    /// The customer's limit is reached.
    pub(crate) fn count_customer(&self, customer: &CustomerId) -> Result<(), Exceeded> {
        self.customer.count(customer.as_str())
    }

    /// Counts a change that a customer asks for. Its purchases use up nothing of this allowance, nor it of theirs:
    /// whoever has just bought as much as it may can still give it up.
    ///
    /// # Errors
    /// The customer's limit is reached.
    pub(crate) fn count_change(&self, customer: &CustomerId) -> Result<(), Exceeded> {
        self.changes.count(customer.as_str())
    }

    /// Counts a token that was refused.
    ///
    /// # Errors
    /// The limit of the address or of its network is reached.
    pub(crate) fn count_refused_token(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.logins.count(client)
    }

    /// Counts a read of a client.
    ///
    /// # Errors
    /// The limit of the address or of its network is reached.
    pub(crate) fn count_read(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.reads.count(client)
    }
}

/// The limit of everybody together.
struct Global {
    policy: Policy,
    refused: metrics::Counter,
    limited: Option<(RateLimit, DefaultDirectRateLimiter)>,
}

impl Global {
    fn new(limit: Option<RateLimit>) -> Self {
        Self {
            policy: GLOBAL,
            refused: GLOBAL.refused(),
            limited: limit.map(|limit| (limit, RateLimiter::direct(quota(limit)))),
        }
    }

    fn count(&self) -> Result<(), Exceeded> {
        let Some((limit, limiter)) = &self.limited else {
            return Ok(());
        };
        let now = DefaultClock::default().now();
        limiter.check().map_err(|until| {
            self.refused.increment(1);
            self.policy.exceeded(*limit, until.wait_time_from(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;

    fn limit(count: u32, burst: u32) -> RateLimit {
        let (count, burst) = (NonZeroU32::new(count), NonZeroU32::new(burst));
        RateLimit {
            count: count.expect("not 0"),
            period: Duration::from_hours(1),
            burst: burst.expect("not 0"),
        }
    }

    fn off() -> RateLimits {
        RateLimits {
            ip: None,
            customer: None,
            global: None,
            reads: None,
            logins: None,
        }
    }

    #[test]
    fn a_caller_gets_the_burst_and_then_waits_while_others_go_on() {
        let limits = Limits::new(RateLimits {
            ip: Some(limit(1, 3)),
            ..off()
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
    fn purchases_and_reads_are_counted_apart_and_all_purchases_together() {
        let limits = Limits::new(RateLimits {
            global: Some(limit(1, 2)),
            reads: Some(limit(1, 1)),
            ..off()
        });
        let (one, other) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        limits.count_read(one).expect("the first read");
        let exceeded = limits.count_read(one).expect_err("the second read");
        assert_eq!(exceeded.policy, "reads");
        limits.count_client(one).expect("a purchase is no read");
        limits.count_client(other).expect("the second purchase");
        let exceeded = limits.count_client(other).expect_err("the third");
        assert_eq!(exceeded.policy, "global");
        limits.count_read(other).expect("a read is no purchase");
    }
}
