//! Who is calling: the socket's address, or what a trusted proxy says of it.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address of the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The proxies whose word is taken.
#[derive(Debug, Clone)]
pub(crate) struct TrustedProxies(pub(crate) Vec<IpNet>);

impl TrustedProxies {
    /// The client of a request.
    ///
    /// `X-Forwarded-For` is read from its end, because each proxy appends the address it saw: the
    /// first address that is not one of our proxies is the client. What stands before it is the
    /// client's own claim and is not looked at.
    #[must_use]
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.0.to_canonical();
        if !self.trust(client) {
            return client;
        }
        let lines = headers
            .get_all("x-forwarded-for")
            .iter()
            .rev()
            .map(|value| value.to_str().unwrap_or_default());
        for hop in lines.flat_map(|line| line.rsplit(',')) {
            let Some(address) = parse_hop(hop.trim()) else {
                break;
            };
            client = address.to_canonical();
            if !self.trust(client) {
                break;
            }
        }
        client
    }

    /// Returns whether an address, in its canonical form, is one of the proxies.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: plain, with a port, or in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    text.parse()
        .ok()
        .or_else(|| {
            text.parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| address.ip())
        })
        .or_else(|| unbracketed?.parse().ok())
}

/// The part of an address that stands for one client: an IPv6 client has a whole /64 to choose from.
#[must_use]
pub(crate) fn counted_part(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The /48 around an IPv6 client, which is what one site has at most. (RFC 6177.)
#[must_use]
pub(crate) fn network_part(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Some(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &[&str]) -> String {
        let proxies = proxies
            .split(',')
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a header value"));
        }
        TrustedProxies(proxies.collect())
            .client(Peer(peer.parse().expect("an address")), &headers)
            .to_string()
    }

    #[test]
    fn the_client_is_the_first_hop_from_the_end_that_is_not_a_proxy_of_ours() {
        assert_eq!(client("", "9.9.9.9", &["1.1.1.1"]), "9.9.9.9");
        assert_eq!(client("10.0.0.0/8", "9.9.9.9", &["1.1.1.1"]), "9.9.9.9");
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.0/8", "10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("10.0.0.0/8", "10.0.0.1", &["6.6.6.6", "1.1.1.1:4711"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]:80"]),
            "2001:db8::1"
        );
        assert_eq!(
            client("10.0.0.0/8", "10.0.0.1", &["1.1.1.1, not an address"]),
            "10.0.0.1"
        );
        assert_eq!(
            client("10.0.0.0/8", "::ffff:10.0.0.1", &["1.1.1.1"]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_64_in_its_48() {
        let part = |text: &str| counted_part(text.parse().expect("an address")).to_string();
        assert_eq!(part("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(part("1.2.3.4"), "1.2.3.4");
        let network = |text: &str| network_part(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1::".parse().ok());
        assert_eq!(network("1.2.3.4"), None);
    }
}
