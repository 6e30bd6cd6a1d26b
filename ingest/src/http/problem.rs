//! Refusals: every way in which a request can go wrong, and the one `match` that says which of the list in
//! [`super::code`] it is.
//!
//! A handler returns a [`Problem`]; the outermost layer, which knows the request id, writes its body.

use std::time::Duration;

use axum::{
    extract::rejection::PathRejection,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hotrow_shared::{id::OrderId, webhook::ENDPOINTS_MAX};

use super::{code::Code, exceeded::Exceeded, json::Faults, not_sold::NotSold};

/// Why a request is refused, named for what the client can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Problem {
    /// Not JSON, or a header that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// More than a purchase can need.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body did not come in time.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// Not `application/json`.
    #[error("the content type must be application/json")]
    UnsupportedMediaType,
    /// A compressed body.
    #[error("the body must not be compressed: send it without Content-Encoding")]
    Compressed,
    /// A path or a query with a value that is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// JSON of the wrong shape or out of bounds.
    #[error("{0}")]
    InvalidBody(Faults),
    /// The key was used for something else.
    #[error("this idempotency key was used with a different body: use a new key for a new request")]
    IdempotencyMismatch,
    /// A product is not sold, or not so.
    #[error("{0}")]
    NotSold(NotSold),
    /// All purchases are stopped.
    #[error("all purchases are stopped for the moment: try again later")]
    Stopped {
        /// When they go on by themselves, if that is known.
        until: Option<DateTime<Utc>>,
        /// How long that is.
        wait: Option<Duration>,
    },
    /// What is to be changed is not as the caller has seen it.
    #[error(
        "the product was changed by somebody else: read it again, and repeat the change with its new ETag"
    )]
    PreconditionFailed,
    /// Too many purchases, or too many of something else.
    #[error("too many {}: wait before the next one", .0.what)]
    RateLimited(Exceeded),
    /// More is queued than can be settled soon.
    #[error("more orders are waiting than can be settled soon: try again later")]
    Overloaded(Duration),
    /// As many live streams are open as this process may have.
    #[error(
        "too many live streams are open: read the product or poll the order with a wait, and try again later"
    )]
    TooManyStreams,
    /// A server that the answer needs is out of reach.
    #[error("{0} is out of reach: nothing was done, try again")]
    Unavailable(&'static str),
    /// The broker did not say whether it has the order.
    #[error(
        "the broker did not confirm in time, so the order may or may not be queued, and its order_id reads queued for ever if it never was: repeat the request with the same Idempotency-Key, which resolves it; without a key, a repeat is another order"
    )]
    OutcomeUnknown(OrderId),
    /// The database did not say whether it made a change.
    #[error(
        "the database did not answer, so the change may or may not have been made: look at the product, or repeat the request with the same Idempotency-Key"
    )]
    ChangeUnknown,
    /// The database did not say whether it changed an endpoint of webhooks.
    #[error(
        "the database did not answer, so this may or may not have been done: look at the endpoint and its deliveries, and repeat the request"
    )]
    EndpointUnknown,
    /// Nothing is sent to the endpoint.
    #[error("the endpoint is disabled: enable it first")]
    EndpointDisabled,
    /// There are as many endpoints as there may be.
    #[error("there are {ENDPOINTS_MAX} endpoints already: delete one first")]
    TooManyEndpoints,
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// There is such a thing, but not with this method.
    #[error("this path does not take the method")]
    MethodNotAllowed,
    /// No bearer token, or not the right one, or none is configured.
    #[error("a valid bearer token is required")]
    Unauthorized,
    /// The bearer token is not right, for this reason.
    #[error("the bearer token is refused: {0}")]
    TokenRefused(String),
    /// The caller is known, and may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The state of the order does not allow what was asked.
    #[error("{}", if *.unmatched {
        "the payment did not pay this order, and is listed among the unmatched payments"
    } else {
        "the state of the order does not allow this"
    })]
    Conflict {
        /// The document of the order.
        order: Bytes,
        /// Whether the payment that was reported is listed as unmatched.
        unmatched: bool,
    },
    /// The order waits to be settled, for about so long.
    #[error("the order is not settled yet: repeat the request once it is")]
    NotSettled(Duration),
    /// The order of an event waits to be settled, for about so long. Whoever sends events repeats one that gets a 503.
    #[error("the order of this event is not settled yet: deliver the event again")]
    EventTooEarly(Duration),
    /// The broker or the database did not say whether it took a command that may be repeated.
    #[error(
        "no answer came in time, so this may or may not be done: repeat the same request, which is safe, because the same again changes nothing"
    )]
    CommandUnknown(Option<OrderId>),
}

/// The content type of every refusal (RFC 9457).
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// How long a client should wait while purchases are stopped and nobody has said for how long.
const STOPPED_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a client should wait for a place among the live streams: they end after a minute or two.
const STREAM_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a client should wait after a 503 that says nothing better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Problem {
    /// Which of the refusals it is.
    #[must_use]
    pub(crate) fn kind(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::Malformed,
            Self::TooLarge(_) => Code::TooLarge,
            Self::TooSlow(_) => Code::RequestTimeout,
            Self::UnsupportedMediaType | Self::Compressed => Code::UnsupportedMediaType,
            Self::Invalid(_) | Self::InvalidBody(_) => Code::Invalid,
            Self::IdempotencyMismatch => Code::IdempotencyMismatch,
            Self::NotSold(NotSold { why, .. }) => why.code(),
            Self::Stopped { .. } => Code::Stopped,
            Self::PreconditionFailed => Code::PreconditionFailed,
            Self::RateLimited(_) => Code::RateLimited,
            Self::Overloaded(_) | Self::TooManyStreams => Code::Overloaded,
            Self::Unavailable(_) => Code::Unavailable,
            Self::OutcomeUnknown(_)
            | Self::ChangeUnknown
            | Self::CommandUnknown(_)
            | Self::EndpointUnknown => Code::OutcomeUnknown,
            Self::NotFound(_) => Code::NotFound,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::Unauthorized | Self::TokenRefused(_) => Code::Unauthorized,
            Self::Forbidden(_) => Code::Forbidden,
            Self::Conflict { .. } => Code::Conflict,
            Self::EndpointDisabled => Code::EndpointDisabled,
            Self::TooManyEndpoints => Code::TooManyEndpoints,
            Self::NotSettled(_) => Code::NotSettled,
            Self::EventTooEarly(_) => Code::EventTooEarly,
        }
    }

    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        self.kind().as_str()
    }

    /// The order that it is about, if it has a name.
    #[must_use]
    pub(crate) fn order_id(&self) -> Option<OrderId> {
        match self {
            Self::OutcomeUnknown(id) => Some(*id),
            Self::CommandUnknown(id) => *id,
            _ => None,
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let retry_after = match self {
            Self::NotSold(NotSold { why, .. }) => why.retry_after(),
            Self::Stopped { wait, .. } => Some(wait.unwrap_or(STOPPED_RETRY_AFTER)),
            Self::Overloaded(wait) | Self::NotSettled(wait) | Self::EventTooEarly(wait) => {
                Some((*wait).max(RETRY_AFTER))
            }
            Self::TooManyStreams => Some(STREAM_RETRY_AFTER),
            Self::Unavailable(_)
            | Self::OutcomeUnknown(_)
            | Self::ChangeUnknown
            | Self::CommandUnknown(_)
            | Self::EndpointUnknown => Some(RETRY_AFTER),
            Self::RateLimited(exceeded) => {
                for (name, value) in exceeded.headers() {
                    headers.insert(HeaderName::from_static(name), value);
                }
                Some(exceeded.wait)
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                None
            }
            Self::TokenRefused(_) => {
                // RFC 6750, section 3.1.
                let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
                headers.insert(header::WWW_AUTHENTICATE, challenge);
                None
            }
            Self::Compressed => {
                // RFC 9110, section 12.5.3.
                let identity = HeaderValue::from_static("identity");
                headers.insert(header::ACCEPT_ENCODING, identity);
                None
            }
            _ => None,
        };
        if let Some(wait) = retry_after {
            headers.insert(header::RETRY_AFTER, super::whole_seconds(wait).into());
        }
        headers
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind().status(), self.headers()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::Malformed(format!("the path cannot be read: {rejection}"))
    }
}
