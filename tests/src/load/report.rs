//! What a load has seen: ids, refusals, times.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use uuid::Uuid;

use super::answer::Answer;

/// The longest time that is told from a longer one, in microseconds.
const MICROSECONDS_MAX: u64 = 60_000_000;
/// Times are kept to three digits.
const DIGITS: u8 = 3;

/// The outcome of a load, or of a part of it.
///
/// All answers are counted. Times and rates are those of the measured part, where a load has one.
#[derive(Debug, Clone)]
pub struct Report {
    /// The ids of all orders with a 202, in no order.
    pub accepted: Vec<Uuid>,
    /// How often the answer was a refusal.
    pub refused: BTreeMap<Refusal, u64>,
    /// How often a read showed an order in which status.
    pub shown: BTreeMap<String, u64>,
    /// How often a buyer who waited was told which outcome.
    pub told: BTreeMap<String, u64>,
    /// The numbers of the orders whose connection broke before they had an answer.
    pub unanswered: Vec<u64>,
    /// From sending an order to its 202.
    pub accept_times: Times,
    /// From sending an order to a refusal.
    pub refuse_times: Times,
    /// From sending a read to its answer.
    pub show_times: Times,
    /// From sending an order to the answer that told its outcome.
    pub tell_times: Times,
    /// The measured part; `None` when all of the load is.
    pub window: Option<Window>,
    /// From the start to the last 202.
    pub accepting: Duration,
    /// From the start to the last answer.
    pub elapsed: Duration,
}

/// The measured part of a load, by the clock of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
}

impl Window {
    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        (self.to - self.from).to_std().unwrap_or_default()
    }
}

/// How long something took each time, such as from a request to its answer.
#[derive(Debug, Clone)]
pub struct Times {
    microseconds: Histogram<u64>,
}

impl Times {
    /// None yet.
    ///
    /// # Errors
    /// None: the bounds are fixed.
    pub fn new() -> anyhow::Result<Self> {
        let microseconds = Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS)?;
        Ok(Self { microseconds })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.microseconds.len()
    }

    /// The time in milliseconds that this share of the answers did not take longer than.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn ms(&self, share: f64) -> f64 {
        self.microseconds.value_at_quantile(share) as f64 / 1_000.0
    }

    fn record(&mut self, took: Duration) {
        self.record_often(took, 1);
    }

    /// Something took that long, so many times.
    pub fn record_often(&mut self, took: Duration, times: u64) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.saturating_record_n(microseconds, times);
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.microseconds.add(&other.microseconds)?)
    }
}

/// A kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The `code` of the contract; empty where there was none.
    pub code: String,
}

/// When something was answered, and whether it counts as measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Since the request was, or should have been, sent.
    pub took: Duration,
    /// Since the start of the load.
    pub at: Duration,
    /// Within the measured part.
    pub is_measured: bool,
}

impl Report {
    pub(super) fn new(window: Option<Window>) -> anyhow::Result<Self> {
        let times = Times::new()?;
        Ok(Self {
            accepted: Vec::new(),
            refused: BTreeMap::new(),
            shown: BTreeMap::new(),
            told: BTreeMap::new(),
            unanswered: Vec::new(),
            accept_times: times.clone(),
            refuse_times: times.clone(),
            show_times: times.clone(),
            tell_times: times,
            window,
            accepting: Duration::ZERO,
            elapsed: Duration::ZERO,
        })
    }

    /// How many orders were refused.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// How many requests had an answer of any kind.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.accepted.len() as u64 + self.refusals() + self.shown.values().sum::<u64>()
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

    /// Orders with a 202 per second of the measured part; without one, from the start to the last
    /// of them.
    #[must_use]
    pub fn accepted_per_second(&self) -> f64 {
        let all = (self.accepted.len() as u64, self.accepting);
        self.rate(&self.accept_times, all)
    }

    /// Refusals per second of the measured part; without one, from the start to the last answer.
    #[must_use]
    pub fn refused_per_second(&self) -> f64 {
        self.rate(&self.refuse_times, (self.refusals(), self.elapsed))
    }

    /// Reads per second of the measured part; without one, from the start to the last answer.
    #[must_use]
    pub fn shown_per_second(&self) -> f64 {
        self.rate(&self.show_times, (self.shown.values().sum(), self.elapsed))
    }

    /// Outcomes told to buyers who waited, per second of the measured part; without one, from the
    /// start to the last answer.
    #[must_use]
    pub fn told_per_second(&self) -> f64 {
        self.rate(&self.tell_times, (self.told.values().sum(), self.elapsed))
    }

    /// Answers of any kind per second, from the start to the last of them.
    #[must_use]
    pub fn answered_per_second(&self) -> f64 {
        per_second(self.answered(), self.elapsed)
    }

    fn rate(&self, measured: &Times, (all, time): (u64, Duration)) -> f64 {
        match &self.window {
            Some(window) => per_second(measured.count(), window.length()),
            None => per_second(all, time),
        }
    }

    pub(super) fn answer(&mut self, answer: &Answer, moment: Moment) {
        self.elapsed = self.elapsed.max(moment.at);
        let times = match answer {
            Answer::Accepted(order_id) => {
                self.accepted.push(*order_id);
                self.accepting = self.accepting.max(moment.at);
                &mut self.accept_times
            }
            Answer::Shown(status) => {
                count(&mut self.shown, status);
                &mut self.show_times
            }
            Answer::Refused { status, code } => {
                let (status, code) = (*status, code.clone());
                *self.refused.entry(Refusal { status, code }).or_default() += 1;
                &mut self.refuse_times
            }
        };
        if moment.is_measured {
            times.record(moment.took);
        }
    }

    /// Counts what a buyer who waited was told.
    pub(super) fn tell(&mut self, status: &str, moment: Moment) {
        self.elapsed = self.elapsed.max(moment.at);
        count(&mut self.told, status);
        if moment.is_measured {
            self.tell_times.record(moment.took);
        }
    }

    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.accepted.extend(other.accepted);
        for (refusal, count) in other.refused {
            *self.refused.entry(refusal).or_default() += count;
        }
        for (sum, part) in [(&mut self.shown, other.shown), (&mut self.told, other.told)] {
            for (status, count) in part {
                *sum.entry(status).or_default() += count;
            }
        }
        self.unanswered.extend(other.unanswered);
        self.accept_times.add(&other.accept_times)?;
        self.refuse_times.add(&other.refuse_times)?;
        self.show_times.add(&other.show_times)?;
        self.tell_times.add(&other.tell_times)?;
        self.accepting = self.accepting.max(other.accepting);
        self.elapsed = self.elapsed.max(other.elapsed);
        Ok(())
    }
}

/// Most statuses were met before: no allocation for those.
fn count(counts: &mut BTreeMap<String, u64>, status: &str) {
    match counts.get_mut(status) {
        Some(count) => *count += 1,
        None => drop(counts.insert(status.to_owned(), 1)),
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
