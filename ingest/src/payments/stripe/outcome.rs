//! What was done with an event, and how often.

use hotrow_shared::metrics as list;
use metrics::Counter;

/// What was done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A payment is queued for its order.
    Confirm,
    /// A longer hold is queued for its order.
    Extend,
    /// The type is none that concerns orders.
    Ignored,
    /// It names no order: other programs may use the same account.
    NoOrder,
    /// It is a test and the shop is live, or the reverse.
    OtherMode,
    /// There is no such order. A payment is noted as unmatched.
    UnknownOrder,
    /// It was not signed with the secret, or not lately.
    BadSignature,
    /// It is signed and cannot be read.
    Malformed,
    /// The order is still queued, so it has to come again.
    NotSettled,
    /// The broker or the database is out of reach, so it has to come again.
    Unavailable,
}

impl Outcome {
    const ALL: [Self; 10] = [
        Self::Confirm,
        Self::Extend,
        Self::Ignored,
        Self::NoOrder,
        Self::OtherMode,
        Self::UnknownOrder,
        Self::BadSignature,
        Self::Malformed,
        Self::NotSettled,
        Self::Unavailable,
    ];

    /// The word in the metric, the log and the answer.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Ignored => "ignored",
            Self::NoOrder => "no_order",
            Self::OtherMode => "other_mode",
            Self::UnknownOrder => "unknown_order",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed",
            Self::NotSettled => "not_settled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counts events, by what was done with them.
pub(crate) struct StripeMetrics([(Outcome, Counter); 10]);

impl StripeMetrics {
    /// Creates the series.
    #[must_use]
    pub(crate) fn new() -> Self {
        let series = |outcome: Outcome| {
            let labels = [("outcome", outcome.as_str())];
            (outcome, list::STRIPE_EVENTS.counter(&labels))
        };
        Self(Outcome::ALL.map(series))
    }

    /// Counts an event.
    pub(super) fn count(&self, outcome: Outcome) {
        let mut series = self.0.iter();
        if let Some((_, counter)) = series.find(|(counted, _)| *counted == outcome) {
            counter.increment(1);
        }
    }
}
