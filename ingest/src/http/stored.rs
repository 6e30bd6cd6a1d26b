//! Answers that stay the same for as long as the process runs: encoded once, and told apart by an entity tag.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use super::entity_tag::{etag, known};

/// How a client may keep them: it asks each time whether there is another, which costs no more than a 304.
const CACHING: HeaderValue = HeaderValue::from_static("public, no-cache");

/// An answer that stays the same.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    bytes: Bytes,
    content_type: HeaderValue,
    /// The entity tag without its quotes.
    tag: String,
    /// Whether the bytes are compressed with gzip.
    is_compressed: bool,
}

impl Stored {
    /// An answer of these bytes.
    #[must_use]
    pub(crate) fn new(bytes: Bytes, content_type: HeaderValue) -> Self {
        let hash = blake3::hash(&bytes).to_hex();
        Self {
            bytes,
            content_type,
            tag: hash[..32].to_owned(),
            is_compressed: false,
        }
    }

    /// The same, and says that the bytes are compressed with gzip.
    #[must_use]
    pub(crate) fn compressed(self) -> Self {
        Self {
            is_compressed: true,
            ..self
        }
    }

    /// The answer to a client, which may have it already (RFC 9110, section 13.1.2).
    #[must_use]
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let kept = [etag(&self.tag), (header::CACHE_CONTROL, CACHING)];
        if self.is_known(headers) {
            return (StatusCode::NOT_MODIFIED, kept).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type.clone())];
        let mut response = (kept, content_type, self.bytes.clone()).into_response();
        if self.is_compressed {
            let gzip = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, gzip);
        }
        response
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let has_any = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|it| it == "*");
        has_any || known(headers).any(|tag| tag == self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_it_is_not_sent_it_again() {
        let stored = Stored::new(
            Bytes::from_static(b"{}"),
            HeaderValue::from_static("application/json"),
        );
        let ask = |tags: &[HeaderValue]| {
            let tags = tags.iter().map(|tag| (header::IF_NONE_MATCH, tag.clone()));
            stored.answer(&tags.collect()).status()
        };
        assert_eq!(ask(&[]), StatusCode::OK);
        assert_eq!(
            ask(&[HeaderValue::from_static("\"another\"")]),
            StatusCode::OK
        );
        assert_eq!(
            ask(&[HeaderValue::from_static("*")]),
            StatusCode::NOT_MODIFIED
        );
        let answer = stored.answer(&HeaderMap::new());
        let tag = answer.headers()[header::ETAG].clone();
        assert_eq!(ask(std::slice::from_ref(&tag)), StatusCode::NOT_MODIFIED);
        let text = tag.to_str().expect("a tag");
        let listed = HeaderValue::try_from(format!("\"another\", W/{text}")).expect("a list");
        assert_eq!(ask(&[listed]), StatusCode::NOT_MODIFIED);
    }
}
