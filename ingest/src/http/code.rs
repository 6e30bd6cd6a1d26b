//! The one list of refusals: the status, the word and the title of each, and what a client is told of it.

use axum::http::StatusCode;

/// What a request can be refused with. Two of them may have the same word at different statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Code {
    Malformed,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    CurrencyMismatch,
    PriceChanged,
    Closed,
    NotOpen,
    Paused,
    LimitReached,
    SoldOut,
    Conflict,
    NotSettled,
    EndpointDisabled,
    TooManyEndpoints,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    IdempotencyMismatch,
    UnknownSku,
    RateLimited,
    /// All purchases are stopped.
    Stopped,
    Overloaded,
    Unavailable,
    OutcomeUnknown,
    /// The order of an event is not settled, and whoever sends events repeats one that gets a 503.
    EventTooEarly,
}

impl Code {
    /// Every refusal.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 29] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::CurrencyMismatch,
        Self::PriceChanged,
        Self::Closed,
        Self::NotOpen,
        Self::Paused,
        Self::LimitReached,
        Self::SoldOut,
        Self::Conflict,
        Self::NotSettled,
        Self::EndpointDisabled,
        Self::TooManyEndpoints,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::IdempotencyMismatch,
        Self::UnknownSku,
        Self::RateLimited,
        Self::Stopped,
        Self::Overloaded,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::EventTooEarly,
    ];

    /// What a body that is read may be refused with.
    pub(crate) const OF_A_BODY: &[Self] = &[
        Self::Malformed,
        Self::RequestTimeout,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
    ];

    /// Status, word and title.
    const fn kind(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "Malformed request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Body too slow",
            ),
            Self::CurrencyMismatch => (
                StatusCode::CONFLICT,
                "currency_mismatch",
                "Currencies differ",
            ),
            Self::PriceChanged => (StatusCode::CONFLICT, "price_changed", "Price changed"),
            Self::Closed => (StatusCode::CONFLICT, "closed", "Sale closed"),
            Self::NotOpen => (StatusCode::CONFLICT, "not_open", "Sale not open yet"),
            Self::Paused => (StatusCode::CONFLICT, "paused", "Sale paused"),
            Self::LimitReached => (StatusCode::CONFLICT, "limit_reached", "Limit reached"),
            Self::SoldOut => (StatusCode::CONFLICT, "sold_out", "Sold out"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::NotSettled => (StatusCode::CONFLICT, "not_settled", "Not settled yet"),
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
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                "Changed meanwhile",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Body too large"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
            ),
            Self::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Invalid request",
            ),
            Self::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "Idempotency key reused",
            ),
            Self::UnknownSku => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown_sku",
                "Unknown product",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many requests",
            ),
            Self::Stopped => (
                StatusCode::SERVICE_UNAVAILABLE,
                "paused",
                "Purchases stopped",
            ),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Unavailable",
            ),
            Self::OutcomeUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                "Outcome unknown",
            ),
            Self::EventTooEarly => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not_settled",
                "Not settled yet",
            ),
        }
    }

    /// The status that it is answered with.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        self.kind().0
    }

    /// The member `code` of its body.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        self.kind().1
    }

    /// The member `title` of its body.
    #[must_use]
    pub(crate) const fn title(self) -> &'static str {
        self.kind().2
    }

    /// Whether it says how long to wait: always, or where that can be of use.
    #[must_use]
    pub(crate) const fn may_say_when(self) -> bool {
        matches!(
            self,
            Self::NotOpen
                | Self::SoldOut
                | Self::NotSettled
                | Self::RateLimited
                | Self::Stopped
                | Self::Overloaded
                | Self::Unavailable
                | Self::OutcomeUnknown
                | Self::EventTooEarly
        )
    }
}
