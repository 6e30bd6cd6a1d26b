//! Waits: how long a client lets an answer take, by a query parameter or a preference.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};

use super::problem::Problem;

/// The longest wait that a client can ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a client is ready to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It wants an answer at once.
    Not,
    /// By the query parameter `wait`, which costs a browser no preflight.
    Asked(Duration),
    /// By `Prefer: wait=N` (RFC 7240, section 4.3).
    Preferred(Duration),
}

impl Wait {
    /// Reads the wait of a request, cut at [`WAIT_MAX`]. The query parameter counts before the header.
    ///
    /// # Errors
    /// `malformed` for a wait that is no whole number of seconds.
    pub(crate) fn read(parameter: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(text) = parameter {
            return seconds(text)
                .map(Self::Asked)
                .ok_or_else(|| malformed("the query parameter wait"));
        }
        for value in headers.get_all("prefer") {
            let value = value.to_str().map_err(|_| malformed("Prefer: wait"))?;
            for preference in value.split(',') {
                let (name, text) = name_and_value(preference);
                if name.eq_ignore_ascii_case("wait") {
                    return seconds(text)
                        .map(Self::Preferred)
                        .ok_or_else(|| malformed("Prefer: wait"));
                }
            }
        }
        Ok(Self::Not)
    }

    /// How long the client waits at most; nothing if it does not.
    #[must_use]
    pub(crate) fn duration(self) -> Duration {
        match self {
            Self::Not => Duration::ZERO,
            Self::Asked(wait) | Self::Preferred(wait) => wait,
        }
    }

    /// Says that the preference was followed.
    pub(crate) fn note_applied(self, response: &mut Response) {
        let Self::Preferred(wait) = self else { return };
        let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs()));
        if let Ok(applied) = applied {
            response.headers_mut().insert("preference-applied", applied);
        }
    }
}

/// The parts of a preference such as `wait=10; foo`. One without a value has an empty one.
fn name_and_value(preference: &str) -> (&str, &str) {
    let preference = preference.split(';').next().unwrap_or_default();
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    (name.trim(), value.trim().trim_matches('"'))
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Digits that do not fit into the number are a long wait, too.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)).min(WAIT_MAX))
}

fn malformed(what: &str) -> Problem {
    Problem::Malformed(format!(
        "{what} must be a whole number of seconds, such as wait=10"
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    fn read(parameter: Option<&str>, preferences: &'static [&'static str]) -> Option<Wait> {
        let prefer = header::HeaderName::from_static("prefer");
        let headers = preferences
            .iter()
            .map(|value| (prefer.clone(), HeaderValue::from_static(value)));
        Wait::read(parameter, &headers.collect()).ok()
    }

    #[test]
    fn a_wait_is_found_among_other_preferences_and_bounded() {
        let preferred = |seconds| Some(Wait::Preferred(Duration::from_secs(seconds)));
        assert_eq!(read(None, &["wait=10"]), preferred(10));
        assert_eq!(read(None, &["respond-async", "Wait = 7; x"]), preferred(7));
        assert_eq!(read(None, &["handling=lenient, wait=\"3\""]), preferred(3));
        assert_eq!(read(None, &["wait=3600"]), preferred(30));
        assert_eq!(read(None, &["wait=99999999999999999999"]), preferred(30));
        assert_eq!(read(None, &["respond-async"]), Some(Wait::Not));
        assert_eq!(read(None, &[]), Some(Wait::Not));
    }

    #[test]
    fn the_query_parameter_counts_before_the_header() {
        let asked = Some(Wait::Asked(Duration::from_secs(5)));
        assert_eq!(read(Some("5"), &[]), asked);
        assert_eq!(read(Some("5"), &["wait=soon"]), asked);
    }

    #[test]
    fn a_wait_that_cannot_be_read_is_refused() {
        for wrong in [
            "wait",
            "wait=",
            "wait=soon",
            "wait=-1",
            "wait=1.5",
            "wait=+1",
        ] {
            let prefer = header::HeaderName::from_static("prefer");
            let headers = [(prefer, HeaderValue::from_static(wrong))];
            let read = Wait::read(None, &headers.into_iter().collect());
            assert!(read.is_err(), "{wrong}");
        }
        assert!(read(Some(""), &[]).is_none());
        assert!(read(Some("soon"), &[]).is_none());
    }
}
