//! A rate limit that was reached, and the headers that say so.

use std::time::Duration;

use axum::http::HeaderValue;

use super::whole_seconds;

/// A limit that was reached.
#[derive(Debug, Clone)]
pub(crate) struct Exceeded {
    /// The name of the policy.
    pub(crate) policy: &'static str,
    /// What there is too much of, and from whom, as the middle of a sentence.
    pub(crate) what: &'static str,
    /// How many the policy allows at once.
    pub(crate) quota: u32,
    /// How long it takes until a used-up quota is whole again.
    pub(crate) window: Duration,
    /// When the next one is possible.
    pub(crate) wait: Duration,
}

impl Exceeded {
    /// The headers of draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` names the quota and its
    /// window, `RateLimit` what remains of it and for how long.
    pub(crate) fn headers(&self) -> [(&'static str, HeaderValue); 2] {
        let Self {
            policy,
            quota,
            window,
            wait,
            ..
        } = self;
        let policy_text = format!("\"{policy}\";q={quota};w={}", whole_seconds(*window));
        let state_text = format!("\"{policy}\";r=0;t={}", whole_seconds(*wait));
        let value = |text: String| {
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        [
            ("ratelimit-policy", value(policy_text)),
            ("ratelimit", value(state_text)),
        ]
    }
}
