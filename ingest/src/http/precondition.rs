//! `If-Match`: a change is made only to what the caller has seen (RFC 9110, section 13.1.1).

use axum::http::{HeaderMap, header};

use super::{entity_tag, problem::Problem};

/// What of a product a caller wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Whatever there is, and if there is nothing.
    Anything,
    /// Whatever there is.
    Existing,
    /// One of these editions.
    Editions(Vec<i64>),
}

impl IfMatch {
    /// Reads the header. A tag that none of ours is matches nothing.
    ///
    /// # Errors
    /// `malformed` for what is no list of entity tags.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut editions = Vec::new();
        let mut is_given = false;
        for value in headers.get_all(header::IF_MATCH) {
            is_given = true;
            let text = value.to_str().unwrap_or_default().trim();
            if text == "*" {
                return Ok(Self::Existing);
            }
            let tags = entity_tag::list(text).ok_or_else(|| {
                Problem::Malformed(
                    "If-Match must be the ETag of the product, in its quotes".to_owned(),
                )
            })?;
            // A weak tag never matches strongly.
            let strong = tags.into_iter().filter(|tag| !tag.is_weak);
            editions.extend(strong.filter_map(|tag| tag.inner.parse::<i64>().ok()));
        }
        Ok(if is_given {
            Self::Editions(editions)
        } else {
            Self::Anything
        })
    }

    /// Whether a product of this edition, or none, may be changed.
    #[must_use]
    pub(crate) fn allows(&self, edition: Option<i64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Existing => edition.is_some(),
            Self::Editions(editions) => edition.is_some_and(|it| editions.contains(&it)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<IfMatch> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().expect("a header"));
        }
        IfMatch::read(&headers).ok()
    }

    #[test]
    fn a_change_is_made_only_to_what_the_caller_has_seen() {
        let seven = read(&["\"7\""]).expect("tags");
        assert!(seven.allows(Some(7)) && !seven.allows(Some(8)) && !seven.allows(None));
        let several = read(&["\"6\", \"8\"", "\"9\""]).expect("tags");
        assert!(several.allows(Some(8)) && several.allows(Some(9)) && !several.allows(Some(7)));
        let with_commas = read(&["\"a,b\", W/\"7\",\"8\" , \",\""]).expect("tags");
        assert!(with_commas.allows(Some(8)) && !with_commas.allows(Some(7)));
        let any = read(&["*"]).expect("a star");
        assert!(any.allows(Some(1)) && !any.allows(None));
        assert!(read(&[]).expect("none").allows(None));
    }

    #[test]
    fn a_weak_or_foreign_tag_matches_nothing_and_what_is_no_tag_is_refused() {
        for foreign in ["W/\"7\"", "\"seven\"", "\"\""] {
            assert!(
                !read(&[foreign]).expect("a tag").allows(Some(7)),
                "{foreign}"
            );
        }
        for wrong in ["7", "", "\"7\" \"8\"x", "\"7", "\"7\",", "\"7\"\"8\""] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }
}
