//! How many client connections are open, and whether one more may be.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hotrow_shared::metrics as list;
use metrics::{Counter, Gauge};

use super::pace::SlowClients;
use crate::http::peer::{TrustedProxies, counted_part};

/// The most client connections at a time.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Altogether.
    pub max: usize,
    /// From one address, where an IPv6 client is its /64. Trusted proxies are exempt.
    pub per_address_max: usize,
}

/// The open connections of clients.
pub(super) struct Connections {
    limits: ConnectionLimits,
    proxies: TrustedProxies,
    open: Mutex<Open>,
    metrics: ConnectionMetrics,
    slow: SlowClients,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Without the proxies.
    by_address: HashMap<IpAddr, usize>,
}

struct ConnectionMetrics {
    open: Gauge,
    refused_full: Counter,
    refused_address: Counter,
}

/// Why a connection may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as may be.
    Full,
    /// Its address has as many as one may have.
    Address,
}

/// The place of one open connection, free again when dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    counted: Option<IpAddr>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, proxies: TrustedProxies) -> Arc<Self> {
        let ended = |reason| list::CONNECTIONS_ENDED.counter(&[("reason", reason)]);
        let refused = |reason| list::CONNECTIONS_REFUSED.counter(&[("reason", reason)]);
        let metrics = ConnectionMetrics {
            open: list::CONNECTIONS.gauge(&[]),
            refused_full: refused("full"),
            refused_address: refused("address"),
        };
        metrics.open.set(0.0);
        Arc::new(Self {
            limits,
            proxies,
            open: Mutex::default(),
            metrics,
            slow: SlowClients::new(ended("slow_head"), ended("slow_reader")),
        })
    }

    /// Takes a place for a connection from an address.
    ///
    /// # Errors
    /// There is none; it is counted as refused.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refused> {
        let address = address.to_canonical();
        let counted = (!self.proxies.trust(address)).then(|| counted_part(address));
        let taken = self.open().take(self.limits, counted);
        match taken {
            Ok(()) => self.metrics.open.increment(1),
            Err(Refused::Full) => self.metrics.refused_full.increment(1),
            Err(Refused::Address) => self.metrics.refused_address.increment(1),
        }
        taken.map(|()| Place {
            connections: Arc::clone(self),
            counted,
        })
    }

    /// The bounds of all slow clients together.
    pub(super) fn slow(&self) -> &SlowClients {
        &self.slow
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().give_back(self.counted);
        self.connections.metrics.open.decrement(1);
    }
}

impl Open {
    fn take(&mut self, limits: ConnectionLimits, counted: Option<IpAddr>) -> Result<(), Refused> {
        if self.all >= limits.max {
            return Err(Refused::Full);
        }
        if let Some(address) = counted {
            // One that is refused leaves no entry behind: the address has some already.
            let of_address = self.by_address.entry(address).or_default();
            if *of_address >= limits.per_address_max {
                return Err(Refused::Address);
            }
            *of_address += 1;
        }
        self.all += 1;
        Ok(())
    }

    fn give_back(&mut self, counted: Option<IpAddr>) {
        self.all -= 1;
        let Some(Entry::Occupied(mut of_address)) =
            counted.map(|address| self.by_address.entry(address))
        else {
            return;
        };
        *of_address.get_mut() -= 1;
        if *of_address.get() == 0 {
            of_address.remove();
        }
        // A crowd that is gone leaves no table of its size behind.
        if self.by_address.len() < self.by_address.capacity() / 4 {
            self.by_address.shrink_to(self.by_address.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        max: 3,
        per_address_max: 2,
    };

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_own_limit_and_all_have_one_together() {
        let mut open = Open::default();
        assert_eq!(open.take(LIMITS, Some(address("1.1.1.1"))), Ok(()));
        assert_eq!(open.take(LIMITS, Some(address("1.1.1.1"))), Ok(()));
        assert_eq!(
            open.take(LIMITS, Some(address("1.1.1.1"))),
            Err(Refused::Address)
        );
        assert_eq!(open.take(LIMITS, Some(address("2.2.2.2"))), Ok(()));
        assert_eq!(
            open.take(LIMITS, Some(address("3.3.3.3"))),
            Err(Refused::Full)
        );
        open.give_back(Some(address("1.1.1.1")));
        assert_eq!(open.take(LIMITS, Some(address("3.3.3.3"))), Ok(()));
    }

    #[test]
    fn a_proxy_is_counted_among_all_and_not_by_its_address() {
        let mut open = Open::default();
        for _ in 0..LIMITS.max {
            assert_eq!(open.take(LIMITS, None), Ok(()));
        }
        assert_eq!(open.take(LIMITS, None), Err(Refused::Full));
    }

    #[test]
    fn what_has_gone_leaves_nothing_behind() {
        let mut open = Open::default();
        let limits = ConnectionLimits {
            max: 10_000,
            per_address_max: 1,
        };
        let addresses = || (0..10_000_u32).map(|number| Some(IpAddr::V4(number.into())));
        for address in addresses() {
            assert_eq!(open.take(limits, address), Ok(()));
        }
        addresses().for_each(|address| open.give_back(address));
        assert_eq!(open.all, 0);
        assert!(open.by_address.is_empty() && open.by_address.capacity() < 100);
    }
}
