//! What a load has seen: ids, refusals, times.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use uuid::Uuid;

use super::answer::Answer;

/// The longest time that is told from a longer one, in microseconds.
const MICROSECONDS_MAX: u64 = 60_000_000;
/// Times are kept to three digits.
const DIGITS: u8 = 3;

/// The outcome of a load, or of a part of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The ids of all orders with a 202, in no order.
    pub accepted: Vec<Uuid>,
    /// How often the answer was something else.
    pub refused: BTreeMap<Refusal, u64>,
    /// The numbers of the orders whose connection broke before they had an answer.
    pub unanswered: Vec<u64>,
    /// Microseconds from sending an order to its 202.
    pub accept_times: Histogram<u64>,
    /// Microseconds from sending an order to any other answer.
    pub refuse_times: Histogram<u64>,
    /// From the start to the last 202.
    pub accepting: Duration,
    /// From the start to the last answer.
    pub elapsed: Duration,
}

/// A kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The `code` of the contract; empty where there was none.
    pub code: String,
}

impl Report {
    pub(super) fn new() -> anyhow::Result<Self> {
        let times = Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS)?;
        Ok(Self {
            accepted: Vec::new(),
            refused: BTreeMap::new(),
            unanswered: Vec::new(),
            accept_times: times.clone(),
            refuse_times: times,
            accepting: Duration::ZERO,
            elapsed: Duration::ZERO,
        })
    }

    /// How many orders had another answer than 202.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// How many orders had an answer of any kind.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.accept_times.len() + self.refuse_times.len()
    }

    /// The refusals by their code.
    #[must_use]
    pub fn refused_by_code(&self) -> BTreeMap<String, u64> {
        let mut codes = BTreeMap::new();
        for (refusal, count) in &self.refused {
            *codes.entry(refusal.code.clone()).or_default() += count;
        }
        codes
    }

    /// Orders with a 202 per second, from the start to the last of them.
    #[must_use]
    pub fn accepted_per_second(&self) -> f64 {
        per_second(self.accept_times.len(), self.accepting)
    }

    /// Answers of any kind per second.
    #[must_use]
    pub fn answered_per_second(&self) -> f64 {
        per_second(self.answered(), self.elapsed)
    }

    /// The time in milliseconds within which this share of the accepted orders had its 202.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn accept_ms(&self, share: f64) -> f64 {
        self.accept_times.value_at_quantile(share) as f64 / 1_000.0
    }

    pub(super) fn answer(&mut self, answer: Answer, took: Duration, at: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.elapsed = self.elapsed.max(at);
        match answer {
            Answer::Accepted(order_id) => {
                self.accepted.push(order_id);
                self.accept_times.saturating_record(microseconds);
                self.accepting = self.accepting.max(at);
            }
            Answer::Refused { status, code } => {
                *self.refused.entry(Refusal { status, code }).or_default() += 1;
                self.refuse_times.saturating_record(microseconds);
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.accepted.extend(other.accepted);
        for (refusal, count) in other.refused {
            *self.refused.entry(refusal).or_default() += count;
        }
        self.unanswered.extend(other.unanswered);
        self.accept_times.add(other.accept_times)?;
        self.refuse_times.add(other.refuse_times)?;
        self.accepting = self.accepting.max(other.accepting);
        self.elapsed = self.elapsed.max(other.elapsed);
        Ok(())
    }
}

/// A rate; 0 over no time.
#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}
