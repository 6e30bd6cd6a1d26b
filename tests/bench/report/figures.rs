//! Figures: what a round measures, and what its rounds say of a row together.

use std::{collections::BTreeMap, fmt};

use indicatif::HumanFloatCount;
use serde::{Serialize, Serializer, ser::SerializeMap};

/// One thing that is measured. Rates are per second of the measured part of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Orders that got a 202 (a rival's: its answer that the order is settled).
    AcceptedPerSecond,
    /// Orders whose `settled_at` lies in it (a rival's: those that it accepted).
    SettledPerSecond,
    /// Other answers: reads, refusals, outcomes told to clients who wait.
    AnsweredPerSecond,
    /// Purchases that were refused while something else was measured.
    RefusedPerSecond,
    /// Payments that were refused, in all.
    PaymentsRefused,
    /// Seconds from when holds were due until their goods were back in the stock.
    BackSeconds,
    /// Milliseconds from sending a request, in an open loop from its intended start, to its answer.
    P50Ms,
    /// See [`Figure::P50Ms`].
    P99Ms,
    /// See [`Figure::P50Ms`].
    P999Ms,
    /// Milliseconds from accepting an order to settling it.
    SettledP50Ms,
    /// See [`Figure::SettledP50Ms`].
    SettledP99Ms,
    /// See [`Figure::SettledP50Ms`].
    SettledP999Ms,
    /// Orders settled by each write of an inventory row.
    OrdersPerRowWrite,
    /// Processor time per 1,000 orders or answers, in seconds, of the ingest process or of the rival.
    CpuIngest,
    /// The same of the worker.
    CpuWorker,
    /// The same of RabbitMQ.
    CpuBroker,
    /// The same of PostgreSQL.
    CpuDatabase,
    /// Milliseconds from asking for a change of the stock until a page that listens has it.
    ToldP50Ms,
    /// See [`Figure::ToldP50Ms`].
    ToldP99Ms,
    /// Memory of the ingest processes for each page that listens, in KiB.
    ListenerKib,
    /// Purchases per second beside pages that listen, over those without any.
    RateKept,
    /// The p99 of their answers, over that without any.
    P99Grown,
    /// Most memory that the ingest process had resident, in MB of 1,000,000 bytes.
    MemoryIngestMb,
    /// The same of the worker.
    MemoryWorkerMb,
}

impl Figure {
    /// Every figure, as the table's columns stand.
    pub(crate) const ALL: [Self; 24] = [
        Self::AcceptedPerSecond,
        Self::SettledPerSecond,
        Self::AnsweredPerSecond,
        Self::RefusedPerSecond,
        Self::PaymentsRefused,
        Self::BackSeconds,
        Self::P50Ms,
        Self::P99Ms,
        Self::P999Ms,
        Self::SettledP50Ms,
        Self::SettledP99Ms,
        Self::SettledP999Ms,
        Self::OrdersPerRowWrite,
        Self::CpuIngest,
        Self::CpuWorker,
        Self::CpuBroker,
        Self::CpuDatabase,
        Self::ToldP50Ms,
        Self::ToldP99Ms,
        Self::ListenerKib,
        Self::RateKept,
        Self::P99Grown,
        Self::MemoryIngestMb,
        Self::MemoryWorkerMb,
    ];

    /// The name in `report.json`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptedPerSecond => "accepted_per_second",
            Self::SettledPerSecond => "settled_per_second",
            Self::AnsweredPerSecond => "answered_per_second",
            Self::RefusedPerSecond => "refused_per_second",
            Self::PaymentsRefused => "payments_refused",
            Self::BackSeconds => "back_seconds",
            Self::P50Ms => "p50_ms",
            Self::P99Ms => "p99_ms",
            Self::P999Ms => "p999_ms",
            Self::SettledP50Ms => "settled_p50_ms",
            Self::SettledP99Ms => "settled_p99_ms",
            Self::SettledP999Ms => "settled_p999_ms",
            Self::OrdersPerRowWrite => "orders_per_row_write",
            Self::CpuIngest => "ingest_cpu_seconds_per_1000",
            Self::CpuWorker => "worker_cpu_seconds_per_1000",
            Self::CpuBroker => "broker_cpu_seconds_per_1000",
            Self::CpuDatabase => "database_cpu_seconds_per_1000",
            Self::ToldP50Ms => "told_p50_ms",
            Self::ToldP99Ms => "told_p99_ms",
            Self::ListenerKib => "listener_kib",
            Self::RateKept => "rate_kept",
            Self::P99Grown => "p99_grown",
            Self::MemoryIngestMb => "ingest_peak_memory_mb",
            Self::MemoryWorkerMb => "worker_peak_memory_mb",
        }
    }

    /// What follows its value where a person reads it.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::P50Ms
            | Self::P99Ms
            | Self::P999Ms
            | Self::SettledP50Ms
            | Self::SettledP99Ms
            | Self::SettledP999Ms
            | Self::ToldP50Ms
            | Self::ToldP99Ms => " ms",
            Self::ListenerKib => " KiB",
            Self::BackSeconds => " s",
            Self::MemoryIngestMb | Self::MemoryWorkerMb => " MB",
            _ => "",
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What one round measured; what does not apply to a row is absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round(BTreeMap<Figure, f64>);

impl Round {
    /// The same with a figure.
    #[must_use]
    pub(crate) fn with(mut self, figure: Figure, value: f64) -> Self {
        self.0.insert(figure, value);
        self
    }
}

impl fmt::Display for Round {
    /// The rates, or the time, alone: a sign of life while the benchmark runs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = [
            (Figure::AcceptedPerSecond, "accepted"),
            (Figure::SettledPerSecond, "settled"),
            (Figure::AnsweredPerSecond, "answered"),
        ];
        if let Some(seconds) = self.0.get(&Figure::BackSeconds) {
            return write!(formatter, "  back after {seconds:.1} s");
        }
        for (figure, name) in rates {
            if let Some(rate) = self.0.get(&figure) {
                write!(formatter, "  {name} {:.0}", HumanFloatCount(*rate))?;
            }
        }
        formatter.write_str(" per s")
    }
}

/// A row's name and variant.
pub(crate) type Id = (&'static str, &'static str);

/// One line of the report: a design under a load, measured in several rounds.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What `--only` names it by.
    pub(crate) name: &'static str,
    /// Which of several under that name.
    pub(crate) variant: &'static str,
    /// What its rounds measured.
    pub(crate) rounds: Vec<Round>,
}

impl Row {
    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, figure: Figure) -> Option<f64> {
        median(self.values(figure).collect())
    }

    /// The least and the most that a round measured.
    pub(crate) fn spread(&self, figure: Figure) -> Option<(f64, f64)> {
        let least = self.values(figure).min_by(f64::total_cmp)?;
        let most = self.values(figure).max_by(f64::total_cmp)?;
        Some((least, most))
    }

    /// How many times the figure of `base` this row's is: the median over the passes of the ratio
    /// within one pass. The two rounds of a pass lie seconds apart, so what else the machine did
    /// cancels, which it does not in a ratio of medians.
    pub(crate) fn ratio(&self, base: &Self, figure: Figure) -> Option<f64> {
        let passes = self.rounds.iter().zip(&base.rounds);
        let ratio =
            |(round, base): (&Round, &Round)| Some(round.0.get(&figure)? / base.0.get(&figure)?);
        median(passes.filter_map(ratio).collect())
    }

    fn values(&self, figure: Figure) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .filter_map(move |round| round.0.get(&figure).copied())
    }
}

/// Name, variant, every figure's median (null where it does not apply), the number of rounds, and
/// `spread`, from each figure to the least and the most.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let spreads: BTreeMap<_, _> = Figure::ALL
            .into_iter()
            .filter_map(|figure| Some((figure, self.spread(figure)?)))
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("variant", self.variant)?;
        for figure in Figure::ALL {
            map.serialize_entry(&figure, &self.median(figure))?;
        }
        map.serialize_entry("rounds", &self.rounds.len())?;
        map.serialize_entry("spread", &spreads)?;
        map.end()
    }
}

/// Of the rows that are named and were measured, the one with the most of a figure.
pub(crate) fn best<'a>(rows: &'a [Row], ids: &[Id], figure: Figure) -> Option<&'a Row> {
    rows.iter()
        .filter(|row| ids.contains(&(row.name, row.variant)))
        .filter_map(|row| Some((row, row.median(figure)?)))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(row, _)| row)
}

/// Of an even number, the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (
        values.get(values.len().checked_sub(1)? / 2)?,
        values.get(values.len() / 2)?,
    );
    Some(f64::midpoint(*lower, *upper))
}
