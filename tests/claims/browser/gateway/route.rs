//! What a request is about.

use hyper::{Method, Request};

/// The routes that a page uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::browser) enum Route {
    Purchase,
    Live,
    Order,
    Stock,
    Cancel,
    /// A browser's question whether a page may call.
    Preflight,
    Other,
}

impl Route {
    pub(super) const ALL: [Self; 7] = [
        Self::Purchase,
        Self::Live,
        Self::Order,
        Self::Stock,
        Self::Cancel,
        Self::Preflight,
        Self::Other,
    ];

    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let path = request.uri().path();
        match *request.method() {
            Method::OPTIONS => Self::Preflight,
            Method::POST if path == "/v1/orders" => Self::Purchase,
            Method::POST if path.ends_with("/cancel") => Self::Cancel,
            Method::GET if path == "/v1/live" => Self::Live,
            Method::GET if path.starts_with("/v1/orders") => Self::Order,
            Method::GET if path.starts_with("/v1/inventory") => Self::Stock,
            _ => Self::Other,
        }
    }
}
