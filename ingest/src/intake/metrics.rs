//! The series of purchases, made once at start so that each exists at zero.

use std::collections::BTreeSet;

use hotrow_shared::metrics as list;
use metrics::Counter;

use crate::http::code::Code;

/// Counts purchases.
pub(crate) struct IntakeMetrics {
    /// Orders that got a 202.
    pub(crate) accepted: Counter,
    refused: Vec<(&'static str, Counter)>,
}

impl IntakeMetrics {
    /// Creates the series, one for each word that a purchase may be refused with.
    #[must_use]
    pub(crate) fn new(refusals: &[Code]) -> Self {
        // Two of them may have the same word, and then they have the same series.
        let words: BTreeSet<_> = refusals.iter().map(|code| code.as_str()).collect();
        let refused = words.into_iter();
        let refused = refused.map(|word| (word, list::ORDERS_REFUSED.counter(&[("code", word)])));
        Self {
            accepted: list::ORDERS_ACCEPTED.counter(&[]),
            refused: refused.collect(),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: &str) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == code) {
            counter.increment(1);
        }
    }
}
