//! Free TCP ports for servers that must be told their port before they start.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use rand::RngExt;

/// Below the range from which the kernel takes the ports of outgoing connections, so that a server
/// which is down for a moment finds its port free when it comes back.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port of 127.0.0.1 that nobody listens on, and that this process has not been given before: a
/// server may take seconds until it listens on its own.
///
/// # Errors
/// When 1,000 ports in a row are taken.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1_000)
        .map(|_| rand::rng().random_range(RANGE))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .context("found no free port between 20000 and 32000 on 127.0.0.1")
}
