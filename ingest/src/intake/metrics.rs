//! The series of purchases, made once at start so that each exists at zero.

use hotrow_shared::metrics as list;
use metrics::Counter;

use crate::http::problem::Problem;

/// Counts purchases.
pub(crate) struct IntakeMetrics {
    /// Orders that got a 202.
    pub(crate) accepted: Counter,
    refused: Vec<(&'static str, Counter)>,
}

impl IntakeMetrics {
    /// Creates the series.
    #[must_use]
    pub(crate) fn new() -> Self {
        let refused = Problem::PURCHASE_CODES
            .map(|code| (code, list::ORDERS_REFUSED.counter(&[("code", code)])));
        Self {
            accepted: list::ORDERS_ACCEPTED.counter(&[]),
            refused: refused.into(),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: &str) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == code) {
            counter.increment(1);
        }
    }
}

impl Default for IntakeMetrics {
    fn default() -> Self {
        Self::new()
    }
}
