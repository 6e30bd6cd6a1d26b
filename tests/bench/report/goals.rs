//! Goals: what the rows are held against. A missed goal is reported and fails nothing.

use indicatif::HumanFloatCount;
use serde::Serialize;

use self::{
    Bound::{AtLeast, AtMost},
    Measured::{Median, Most, Ratio},
};
use super::{
    Run,
    figures::{
        Figure::{
            self, AnsweredPerSecond, BackSeconds, ListenerKib, MemoryIngestMb, MemoryWorkerMb,
            P99Grown, P99Ms, PaymentsRefused, RateKept, SettledP99Ms, SettledP999Ms,
            SettledPerSecond, ToldP99Ms,
        },
        Id, Row, best,
    },
};

pub(super) const ROW_LOCK: Id = ("row-lock", "64 connections");
/// Of these two, the better counts.
pub(super) const ONE_STATEMENT: [Id; 2] = [
    ("one-statement", "64 connections"),
    ("one-statement", "256 connections"),
];
pub(super) const QUEUE_PER_ORDER: Id = ("queue-per-order", "16 connections");
pub(super) const HOTROW_64: Id = ("hotrow", "64 connections");
pub(super) const HOTROW_256: Id = ("hotrow", "256 connections");
pub(super) const HOTROW: Id = ("hotrow", "1,024 connections");
pub(super) const FAR_ROW_LOCK: Id = ("far-database", "row-lock");
pub(super) const FAR_ONE_STATEMENT: Id = ("far-database", "one-statement");
pub(super) const FAR_HOTROW: Id = ("far-database", "hotrow");
pub(super) const HOLD: Id = ("hold", "1,024 connections");
pub(super) const PAY: Id = ("pay", "256 connections");
const PAY_IN_A_STAMPEDE: Id = ("pay", "in a stampede");
const EXPIRE: Id = ("expire", "all at once");
const QUIET: Id = ("quiet", "1,024 connections");
const TOKENS_HS256: Id = ("tokens", "HS256");
const TOKENS_ES256: Id = ("tokens", "ES256");
const LIMITED: Id = ("limited", "100,000 customers");
const POPULAR: Id = ("many-skus", "10,000 SKUs");
const KEYED: Id = ("keyed", "1,024 connections");
const OPEN_LOOP: Id = ("open-loop", "80 % of hotrow");
const DRAIN: Id = ("drain", "one SKU");
const CACHED: Id = ("poll", "cached");
const SOLD_OUT: Id = ("sold-out", "refusals");
const SOLD_OUT_KEYED: Id = ("sold-out", "keyed refusals");
const LARGEST_CARTS: Id = ("largest-carts", "4,096 connections");
const SLOW_CLIENTS: Id = ("slow-clients", "17,000 beside 256");
const LISTEN: Id = ("listen", "20,000 pages");
const RAW: Id = ("ceiling", "raw batches of 1,000");
const EMPTY_POST: Id = ("ceiling", "empty handler, POST");
const EMPTY_GET: Id = ("ceiling", "empty handler, GET");
const GROWN: Id = ("growth", "full table");

const GOALS: &[Goal] = &[
    goal(
        "one hot SKU, 1,024 connections: orders settled per second / row-lock",
        Ratio(SettledPerSecond, HOTROW, &[ROW_LOCK]),
        AtLeast(45.0),
    ),
    goal(
        "one hot SKU, 1,024 connections: orders settled per second / one-statement",
        Ratio(SettledPerSecond, HOTROW, &ONE_STATEMENT),
        AtLeast(20.0),
    ),
    goal(
        "one hot SKU, 1,024 connections: orders settled per second / queue-per-order",
        Ratio(SettledPerSecond, HOTROW, &[QUEUE_PER_ORDER]),
        AtLeast(8.0),
    ),
    goal(
        "one hot SKU, 1,024 connections: orders settled per second, on 4 cores",
        Median(SettledPerSecond, HOTROW),
        AtLeast(62_000.0),
    )
    .on_cores(4),
    goal(
        "one hot SKU, 64 connections: orders settled per second / row-lock",
        Ratio(SettledPerSecond, HOTROW_64, &[ROW_LOCK]),
        AtLeast(20.0),
    ),
    goal(
        "database 1 ms away: orders settled per second / row-lock",
        Ratio(SettledPerSecond, FAR_HOTROW, &[FAR_ROW_LOCK]),
        AtLeast(150.0),
    ),
    goal(
        "10,000 SKUs: orders settled per second / one hot SKU",
        Ratio(SettledPerSecond, POPULAR, &[HOTROW]),
        AtLeast(0.7),
    ),
    goal(
        "keyed requests: orders settled per second / unkeyed",
        Ratio(SettledPerSecond, KEYED, &[HOTROW]),
        AtLeast(0.8),
    ),
    goal(
        "remembered tokens, HS256: orders settled per second / open",
        Ratio(SettledPerSecond, TOKENS_HS256, &[HOTROW]),
        AtLeast(0.9),
    ),
    goal(
        "remembered tokens, ES256: orders settled per second / open",
        Ratio(SettledPerSecond, TOKENS_ES256, &[HOTROW]),
        AtLeast(0.9),
    ),
    goal(
        "a limit per customer: orders settled per second / no limit",
        Ratio(SettledPerSecond, LIMITED, &[HOTROW]),
        AtLeast(0.7),
    ),
    goal(
        "events: orders settled per second / EVENTS=off",
        Ratio(SettledPerSecond, HOTROW, &[QUIET]),
        AtLeast(0.92),
    ),
    goal(
        "reserved orders, 1,024 connections: settled per second / confirmed at once",
        Ratio(SettledPerSecond, HOLD, &[HOTROW]),
        AtLeast(0.85),
    ),
    goal(
        "payments, 256 connections: settled per second / purchases",
        Ratio(SettledPerSecond, PAY, &[HOTROW_256]),
        AtLeast(0.5),
    ),
    goal(
        "payments in a stampede that were refused",
        Most(PaymentsRefused, PAY_IN_A_STAMPEDE),
        AtMost(0.0),
    ),
    goal(
        "100,000 holds that are over at once: until the stock is back",
        Median(BackSeconds, EXPIRE),
        AtMost(10.0),
    )
    .in_full(),
    goal(
        "one hot SKU, 256 connections: p99 of the 202",
        Median(P99Ms, HOTROW_256),
        AtMost(12.0),
    ),
    goal(
        "open loop at 80 %: p99 from accepted to settled",
        Median(SettledP99Ms, OPEN_LOOP),
        AtMost(60.0),
    ),
    goal(
        "open loop at 80 %: p99.9 from accepted to settled",
        Median(SettledP999Ms, OPEN_LOOP),
        AtMost(150.0),
    ),
    goal(
        "drain of one SKU: orders settled per second / raw batches",
        Ratio(SettledPerSecond, DRAIN, &[RAW]),
        AtLeast(0.7),
    ),
    goal(
        "cached status reads per second / empty handler",
        Ratio(AnsweredPerSecond, CACHED, &[EMPTY_GET]),
        AtLeast(0.7),
    ),
    goal(
        "sold-out refusals per second / empty handler",
        Ratio(AnsweredPerSecond, SOLD_OUT, &[EMPTY_POST]),
        AtLeast(0.7),
    ),
    goal(
        "sold-out refusals per second with keys / without",
        Ratio(AnsweredPerSecond, SOLD_OUT_KEYED, &[SOLD_OUT]),
        AtLeast(0.5),
    ),
    goal(
        "largest carts: peak memory of ingest",
        Median(MemoryIngestMb, LARGEST_CARTS),
        AtMost(256.0),
    ),
    goal(
        "largest carts: peak memory of the worker",
        Median(MemoryWorkerMb, LARGEST_CARTS),
        AtMost(256.0),
    ),
    goal(
        "slow clients: peak memory of ingest",
        Median(MemoryIngestMb, SLOW_CLIENTS),
        AtMost(256.0),
    ),
    goal(
        "20,000 pages that listen: memory of ingest for each",
        Median(ListenerKib, LISTEN),
        AtMost(16.0),
    )
    .in_full(),
    goal(
        "20,000 pages that listen: p99 from a change to all of them",
        Median(ToldP99Ms, LISTEN),
        AtMost(500.0),
    )
    .in_full(),
    goal(
        "20,000 pages that listen: purchases per second beside them / without",
        Median(RateKept, LISTEN),
        AtLeast(0.9),
    )
    .in_full(),
    goal(
        "20,000 pages that listen: p99 of the 202 beside them / without",
        Median(P99Grown, LISTEN),
        AtMost(1.1),
    )
    .in_full(),
    goal(
        "one hot SKU, 1,024 connections: peak memory of ingest",
        Median(MemoryIngestMb, HOTROW),
        AtMost(100.0),
    ),
    goal(
        "one hot SKU, 1,024 connections: peak memory of the worker",
        Median(MemoryWorkerMb, HOTROW),
        AtMost(100.0),
    ),
    goal(
        "10 million stored orders: orders settled per second / empty table",
        Ratio(SettledPerSecond, GROWN, &[HOTROW]),
        AtLeast(0.9),
    )
    .in_full(),
];

/// A goal and how a run stands to it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judgement {
    /// What is measured, in words.
    pub(crate) figure: &'static str,
    /// The bound, in words.
    pub(crate) goal: String,
    /// `None` when the run did not measure it.
    pub(crate) value: Option<f64>,
    /// `None` when the run did not measure it, or is none that the goal is for.
    pub(crate) met: Option<bool>,
    /// What follows the value where a person reads it.
    #[serde(skip)]
    pub(crate) unit: &'static str,
}

/// Holds the rows of a run against every goal, on a machine of so many cores.
pub(super) fn judge(rows: &[Row], run: Run, cores: usize) -> Vec<Judgement> {
    let is_meant = |goal: &Goal| cores >= goal.cores && !(goal.in_full && run.quick);
    GOALS
        .iter()
        .map(|goal| goal.judge(rows, is_meant(goal)))
        .collect()
}

struct Goal {
    figure: &'static str,
    measured: Measured,
    bound: Bound,
    cores: usize,
    in_full: bool,
}

enum Measured {
    /// A row's figure.
    Median(Figure, Id),
    /// The most that any round of a row measured.
    Most(Figure, Id),
    /// A row's figure over that of the best of some others, by [`Row::ratio`].
    Ratio(Figure, Id, &'static [Id]),
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const fn goal(figure: &'static str, measured: Measured, bound: Bound) -> Goal {
    Goal {
        figure,
        measured,
        bound,
        cores: 1,
        in_full: false,
    }
}

impl Goal {
    /// The same, which a machine of fewer cores need not meet.
    const fn on_cores(self, cores: usize) -> Self {
        Self { cores, ..self }
    }

    /// The same, which a quick run says nothing about.
    const fn in_full(self) -> Self {
        Self {
            in_full: true,
            ..self
        }
    }

    fn judge(&self, rows: &[Row], is_meant: bool) -> Judgement {
        let value = self.measured.value(rows);
        let unit = self.measured.unit();
        Judgement {
            figure: self.figure,
            goal: self.bound.text(unit),
            value,
            met: value
                .filter(|_| is_meant)
                .map(|value| self.bound.holds(value)),
            unit,
        }
    }
}

impl Measured {
    fn value(&self, rows: &[Row]) -> Option<f64> {
        match *self {
            Median(figure, row) => best(rows, &[row], figure)?.median(figure),
            Most(figure, row) => Some(best(rows, &[row], figure)?.spread(figure)?.1),
            Ratio(figure, row, base) => {
                best(rows, &[row], figure)?.ratio(best(rows, base, figure)?, figure)
            }
        }
    }

    const fn unit(&self) -> &'static str {
        match self {
            Median(figure, _) | Most(figure, _) => figure.unit(),
            Ratio(..) => "",
        }
    }
}

impl Bound {
    fn holds(&self, value: f64) -> bool {
        match *self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }

    fn text(&self, unit: &str) -> String {
        let (sign, bound) = match *self {
            AtLeast(least) => ('≥', least),
            AtMost(most) => ('≤', most),
        };
        format!("{sign} {}{unit}", HumanFloatCount(bound))
    }
}
