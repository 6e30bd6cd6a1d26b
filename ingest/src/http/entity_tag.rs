//! Entity tags: which state of a thing an answer shows (RFC 9110, section 8.8.3).

use std::fmt::Display;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// An entity tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntityTag<'t> {
    pub(super) is_weak: bool,
    /// What is in its quotes. It may be any text but a quote, a comma too.
    pub(super) inner: &'t str,
}

/// The tags of a list; none if it is no list of tags.
pub(super) fn list(mut text: &str) -> Option<Vec<EntityTag<'_>>> {
    let mut tags = Vec::new();
    loop {
        let weak = text.strip_prefix("W/");
        let (inner, rest) = weak.unwrap_or(text).strip_prefix('"')?.split_once('"')?;
        let is_weak = weak.is_some();
        tags.push(EntityTag { is_weak, inner });
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        text = rest.strip_prefix(',')?.trim_start();
    }
}

/// What a client has already, by its tags without their quotes (`If-None-Match`). A proxy that compresses makes tags
/// weak, and they are compared weakly (RFC 9110, section 13.1.2). What is no list of tags names nothing.
pub(crate) fn known(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let tags = lists.filter_map(|value| list(value.to_str().ok()?.trim()));
    tags.flatten().map(|tag| tag.inner)
}

/// The header that says which state an answer shows. `inner` has neither quotes nor control characters.
#[must_use]
pub(crate) fn etag(inner: impl Display) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::try_from(format!("\"{inner}\""));
    let none = HeaderValue::from_static("\"\"");
    (header::ETAG, value.unwrap_or(none))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_what_it_has_in_lists_of_strong_and_weak_tags() {
        let known_of = |values: &[&'static str]| -> Vec<String> {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            known(&headers).map(str::to_owned).collect()
        };
        assert!(known_of(&[]).is_empty());
        assert_eq!(known_of(&["\"1\""]), ["1"]);
        assert_eq!(
            known_of(&["\"a,b\", W/\"2\" ,\"3\"", " \"4\" "]),
            ["a,b", "2", "3", "4"]
        );
        for wrong in ["1", "*", "", "\"1", "\"1\" \"2\"", "\"1\","] {
            assert!(known_of(&[wrong]).is_empty(), "{wrong}");
        }
    }
}
