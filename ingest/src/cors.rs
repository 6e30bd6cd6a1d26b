//! Which pages of other origins may call, and what they may send and read.

use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{http::observe::REQUEST_ID, settings::Origins};

/// The headers that let pages of other origins call, if any may.
pub(crate) fn cors(origins: &Origins) -> Option<CorsLayer> {
    let header = HeaderName::from_static;
    let origins = match origins {
        Origins::These(origins) if origins.is_empty() => return None,
        Origins::Any => AllowOrigin::any(),
        Origins::These(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::DELETE,
            Method::GET,
            Method::PATCH,
            Method::POST,
            Method::PUT,
        ])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header("idempotency-key"),
            header("prefer"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header("preference-applied"),
            header("ratelimit"),
            header("ratelimit-policy"),
            REQUEST_ID,
        ])
        .max_age(Duration::from_mins(10));
    Some(layer)
}
