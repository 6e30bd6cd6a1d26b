//! Where webhooks may go: to the public internet by `https`, and to networks that the operator names.
//!
//! Whoever registers a URL makes this installation send requests, from inside its network. So every address counts,
//! when a URL is registered and again when a connection is made: a name may resolve to another one by then.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// As it is, which only the operator's own networks may see.
    Http,
    /// Encrypted, to whom a certificate names.
    Https,
}

/// The operator's networks, which may be private and to which plain `http` may go.
#[derive(Debug, Clone, Default)]
pub struct AllowedNetworks(Arc<[IpNet]>);

impl AllowedNetworks {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Returns whether a request may go to this address.
    #[must_use]
    pub fn admit(&self, scheme: Scheme, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        let is_named = self.0.iter().any(|network| network.contains(&canonical));
        is_named || (scheme == Scheme::Https && is_public(address))
    }
}

/// Returns whether an address is one of the public internet. An IPv4 address in IPv6 clothes is not: where it would
/// lead depends on the network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special-purpose IPv4 addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // "This network", private, loopback, multicast, reserved and broadcast.
        [0 | 10 | 127 | 224..=255, ..]
            // Carrier-grade NAT.
            | [100, 64..=127, ..]
            // Link-local, where clouds keep their credentials.
            | [169, 254, ..]
            | [172, 16..=31, ..]
            // IETF protocols, documentation, 6to4 relays.
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            // Benchmarks, documentation.
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// By IANA's registry of special-purpose IPv6 addresses: only global unicast, `2000::/3`, is public, and not all of it.
/// Outside of it are loopback, IPv4-mapped, NAT64, unique local, link-local and multicast.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_global_unicast = address.segments()[0] & 0xe000 == 0x2000;
    let is_special = matches!(
        address.segments(),
        // IETF protocols, Teredo among them; documentation; 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2002, ..]
    );
    is_global_unicast && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(networks: &[&str], scheme: Scheme, address: &str) -> bool {
        let networks = networks.iter().map(|it| it.parse().expect("a network"));
        let address = address.parse().expect("an address");
        AllowedNetworks::new(networks.collect()).admit(scheme, address)
    }

    #[test]
    fn only_public_addresses_are_reached_and_only_by_https() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::1",
            "3ffe::1",
        ] {
            assert!(admits(&[], Scheme::Https, public), "{public}");
            assert!(!admits(&[], Scheme::Http, public), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "::1.1.1.1",
            "64:ff9b::101:101",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!admits(&[], Scheme::Https, special), "{special}");
        }
    }

    #[test]
    fn the_operators_networks_are_reached_by_both() {
        let networks = ["127.0.0.0/8", "fd00::/8"];
        for address in ["127.0.0.1", "127.255.0.1", "::ffff:127.0.0.1", "fd00::1"] {
            for scheme in [Scheme::Http, Scheme::Https] {
                assert!(admits(&networks, scheme, address), "{address}");
            }
        }
        assert!(!admits(&networks, Scheme::Http, "10.0.0.1"));
        assert!(!admits(&networks, Scheme::Http, "1.1.1.1"));
    }
}
