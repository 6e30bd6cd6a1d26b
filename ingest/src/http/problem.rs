//! Refusals: every way in which a request can go wrong, and the one `match` that says how it looks.
//!
//! The body is RFC 9457 `application/problem+json`. A handler returns a [`Problem`]; the outermost
//! layer, which knows the request id, writes it.

use std::time::Duration;

use axum::{
    extract::rejection::PathRejection,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hotrow_shared::{id::OrderId, outcome::timestamp_if_any, webhook::ENDPOINTS_MAX};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    exceeded::Exceeded,
    json::Faults,
    not_sold::{NotSold, Why},
};

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

/// How long a client should wait while purchases are stopped and nobody has said for how long.
const STOPPED_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a client should wait for a place among the live streams: they end after a minute or two.
const STREAM_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a client should wait after a 503 that says nothing better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a Faults>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unmatched: bool,
    /// Of a product that is sold out, while some of it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    /// Of a sale that has not begun: when it does.
    #[serde(
        serialize_with = "timestamp_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    opens_at: Option<DateTime<Utc>>,
    /// Of a limit: how many pieces it allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i32>,
    /// Of a price that is not the one that the buyer saw: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_price_minor: Option<i64>,
    /// Of purchases that are stopped: when they go on by themselves.
    #[serde(
        serialize_with = "timestamp_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    until: Option<DateTime<Utc>>,
}

impl Problem {
    /// Every code that a refused purchase can have: the label values of `hotrow_orders_refused_total`.
    pub(crate) const PURCHASE_CODES: [&'static str; 19] = [
        "malformed",
        "too_large",
        "request_timeout",
        "unsupported_media_type",
        "forbidden",
        "invalid",
        "idempotency_mismatch",
        "unknown_sku",
        "currency_mismatch",
        "price_changed",
        "closed",
        "not_open",
        "paused",
        "limit_reached",
        "sold_out",
        "rate_limited",
        "overloaded",
        "unavailable",
        "outcome_unknown",
    ];

    /// Status, code and title.
    #[must_use]
    pub(crate) fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "Malformed request"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Body too large"),
            Self::TooSlow(_) => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Body too slow",
            ),
            Self::UnsupportedMediaType | Self::Compressed => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
            ),
            Self::Invalid(_) | Self::InvalidBody(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Invalid request",
            ),
            Self::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "Idempotency key reused",
            ),
            Self::NotSold(NotSold { why, .. }) => {
                let status = match why {
                    Why::UnknownSku => StatusCode::UNPROCESSABLE_ENTITY,
                    _ => StatusCode::CONFLICT,
                };
                (status, why.refusal().as_str(), why.title())
            }
            Self::Stopped { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "paused",
                "Purchases stopped",
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                "Changed meanwhile",
            ),
            Self::RateLimited(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many requests",
            ),
            Self::Overloaded(_) | Self::TooManyStreams => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded")
            }
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Unavailable",
            ),
            Self::OutcomeUnknown(_)
            | Self::ChangeUnknown
            | Self::CommandUnknown(_)
            | Self::EndpointUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                "Outcome unknown",
            ),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
            ),
            Self::Unauthorized | Self::TokenRefused(_) => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized")
            }
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::Conflict { .. } => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::EndpointDisabled => (
                StatusCode::CONFLICT,
                "endpoint_disabled",
                "Endpoint disabled",
            ),
            Self::TooManyEndpoints => (
                StatusCode::CONFLICT,
                "too_many_endpoints",
                "Too many endpoints",
            ),
            Self::NotSettled(_) => (StatusCode::CONFLICT, "not_settled", "Not settled yet"),
            Self::EventTooEarly(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not_settled",
                "Not settled yet",
            ),
        }
    }

    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        self.kind().1
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

    /// The answer's body. `methods` are those that the path takes.
    #[must_use]
    pub(crate) fn body(&self, request_id: &str, methods: impl FnOnce() -> String) -> Vec<u8> {
        let (status, code, title) = self.kind();
        let order_id = self.order_id();
        let errors = match self {
            Self::InvalidBody(faults) => Some(faults),
            _ => None,
        };
        let (order, unmatched) = match self {
            Self::Conflict { order, unmatched } => (serde_json::from_slice(order).ok(), *unmatched),
            _ => (None, false),
        };
        let why = match self {
            Self::NotSold(NotSold { why, .. }) => Some(why),
            _ => None,
        };
        let body = Body {
            r#type: format!("urn:hotrow:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: match self {
                Self::MethodNotAllowed => format!("{self}: it takes {}", methods()),
                _ => self.to_string(),
            },
            code,
            request_id,
            order_id,
            status_url: order_id.map(super::status_url),
            errors,
            order,
            unmatched,
            state: (why == Some(&Why::SoldOut { is_held: true })).then_some("all_held"),
            opens_at: match why {
                Some(Why::NotOpen { opens_at, .. }) => Some(*opens_at),
                _ => None,
            },
            limit: match why {
                Some(Why::LimitReached { limit }) => Some(*limit),
                _ => None,
            },
            unit_price_minor: match why {
                Some(Why::PriceChanged { unit_price_minor }) => Some(*unit_price_minor),
                _ => None,
            },
            until: match self {
                Self::Stopped { until, .. } => *until,
                _ => None,
            },
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
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
        let mut response = (self.kind().0, self.headers()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::Malformed(format!("the path cannot be read: {rejection}"))
    }
}
