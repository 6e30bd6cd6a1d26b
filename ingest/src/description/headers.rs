//! The headers of answers.

use std::collections::BTreeMap;

use utoipa::openapi::{Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Type};

/// Every header that an answer may have, and what it says. What every answer over HTTP has is not listed.
const ALL: &[(&str, Type, &str)] = &[
    (
        "Accept-Encoding",
        Type::String,
        "`identity`: bodies of requests must not be compressed (RFC 9110, section 12.5.3).",
    ),
    (
        "Cache-Control",
        Type::String,
        "For how long the answer may be shown again (RFC 9111).",
    ),
    (
        "Content-Security-Policy",
        Type::String,
        "What the page may load: its own files and nothing else.",
    ),
    (
        "ETag",
        Type::String,
        "The revision of an order or the edition of a product, in quotes; for `If-None-Match` and `If-Match`.",
    ),
    (
        "Location",
        Type::String,
        "Where the order or the endpoint is found.",
    ),
    (
        "Preference-Applied",
        Type::String,
        "How long was waited at most, if `Prefer: wait` asked for it (RFC 7240), such as `wait=10`.",
    ),
    (
        "RateLimit",
        Type::String,
        "What is left of the quota that was used up, and in how many seconds there is more, such as `\"ip\";r=0;t=1`.",
    ),
    (
        "RateLimit-Policy",
        Type::String,
        "The quota that was used up and its window in seconds, such as `\"ip\";q=200;w=2`.",
    ),
    (
        "Retry-After",
        Type::Integer,
        "For how many whole seconds to wait before the next request, at least 1.",
    ),
    (
        "WWW-Authenticate",
        Type::String,
        "`Bearer`, with `error=\"invalid_token\"` where a token was sent and is refused (RFC 6750).",
    ),
    (
        "X-Request-Id",
        Type::String,
        "The request id: the client's own, if it sent one, or else a new one.",
    ),
];

/// All of them, as components.
pub(super) fn all() -> BTreeMap<String, RefOr<Header>> {
    let all = ALL.iter().map(|(name, of_type, description)| {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(of_type.clone())))
            .description(Some(*description))
            .build();
        ((*name).to_owned(), header.into())
    });
    all.collect()
}

/// The name as it is usually written.
///
/// # Panics
/// No answer has such a header.
pub(super) fn written(name: &str) -> String {
    let mut names = ALL.iter().map(|(written, ..)| *written);
    let written = names.find(|written| written.eq_ignore_ascii_case(name));
    written
        .unwrap_or_else(|| panic!("the header {name} is not among those that answers have"))
        .to_owned()
}

/// The component of a header.
pub(super) fn reference(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{}", written(name))))
}
