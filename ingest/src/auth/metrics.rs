//! The series of tokens and keys, made once at start so that each exists at zero.

use hotrow_shared::metrics as list;
use metrics::Counter;

use super::refused::Refused;

/// Counts tokens that were refused.
pub(super) struct TokenMetrics(Vec<(Refused, Counter)>);

impl TokenMetrics {
    /// Creates the series.
    #[must_use]
    pub(super) fn new() -> Self {
        let series = Refused::ALL.map(|why| {
            let labels = [("reason", why.as_str())];
            (why, list::TOKENS_REFUSED.counter(&labels))
        });
        // Exists where no keys are read from anywhere, too.
        list::JWKS_AGE.gauge(&[]).set(0.0);
        Self(series.into())
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, why: Refused) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == why) {
            counter.increment(1);
        }
    }
}
