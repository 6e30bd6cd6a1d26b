//! Who may ask the window: whoever calls it by its own name, and to change something, only its own page.
//!
//! A page of somebody else could otherwise point a name of its own at this machine (DNS rebinding) or send a form here.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::refusal::Refusal;

/// What every answer says to a browser.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The window's own name.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    host: Arc<str>,
}

impl Origin {
    pub(super) fn of(address: SocketAddr) -> Self {
        let host = address.to_string().into();
        Self { host }
    }

    fn text(&self) -> String {
        format!("http://{}", self.host)
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let says = |name: HeaderName, expected: &str| {
            // If it is there twice, nobody knows which of them counts.
            let mut values = request.headers().get_all(name).iter();
            values.next().is_some_and(|value| value == expected) && values.next().is_none()
        };
        if !says(header::HOST, &self.host) {
            return Err(Refusal::WrongHost(self.text()));
        }
        let only_reads = [Method::GET, Method::HEAD].contains(request.method());
        if !only_reads && !says(header::ORIGIN, &self.text()) {
            return Err(Refusal::WrongOrigin);
        }
        Ok(())
    }
}

pub(super) async fn guard(State(origin): State<Origin>, request: Request, next: Next) -> Response {
    let mut response = match origin.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    // Files say for themselves how long they may be kept.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
