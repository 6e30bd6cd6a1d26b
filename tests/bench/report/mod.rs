//! The report: what a run measured, for a program as JSON, for a person as tables and a chart.

mod chart;
pub(crate) mod figures;
mod goals;
mod machine;
mod table;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use hotrow_tests::servers::Servers;
use serde::{Serialize, Serializer};

use self::{figures::Row, goals::Judgement, machine::Machine};

/// Everything that a run has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    run: Run,
    rows: Vec<Row>,
    goals: Vec<Judgement>,
}

/// How a run measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    /// It was `--quick`: a look whether all is well.
    pub(crate) quick: bool,
    /// Rounds of each row.
    pub(crate) rounds: usize,
    /// The part of a round that is not counted.
    #[serde(rename = "warm_up_seconds", serialize_with = "seconds")]
    pub(crate) warm_up: Duration,
    /// The part of a round that is.
    #[serde(rename = "measured_seconds", serialize_with = "seconds")]
    pub(crate) measured: Duration,
}

impl Report {
    /// Looks at the machine and its servers, and holds the rows against the goals.
    pub(crate) async fn of(servers: &Servers, run: Run, rows: Vec<Row>) -> anyhow::Result<Self> {
        let machine = Machine::look(servers).await?;
        Ok(Self {
            goals: goals::judge(&rows, run, machine.cores),
            machine,
            run,
            rows,
        })
    }

    /// Writes report.json and, if there is something to draw, report.svg. Returns the folder.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        // Cargo tells only of this sibling.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        fs::create_dir_all(&folder)?;
        write("report.json", serde_json::to_string_pretty(self)? + "\n")?;
        match chart::draw(self)? {
            Some(chart) => write("report.svg", chart)?,
            // Not one of another run beside this run's figures.
            None => drop(fs::remove_file(folder.join("report.svg"))),
        }
        Ok(folder)
    }
}

/// The tables, with what has to be known to read them.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", table::rows(&self.rows))?;
        writeln!(formatter, "{}\n", table::LEGEND)?;
        if self.goals.iter().any(|goal| goal.value.is_some()) {
            writeln!(formatter, "{}\n", table::goals(&self.goals))?;
        }
        writeln!(formatter, "{}", self.run)?;
        write!(formatter, "{}", self.machine)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (warm_up, measured) = (self.warm_up.as_secs_f64(), self.measured.as_secs_f64());
        if self.rounds == 1 {
            write!(formatter, "One round of {measured} s")?;
        } else {
            write!(
                formatter,
                "Medians of {} rounds of {measured} s",
                self.rounds
            )?;
        }
        write!(formatter, ", after {warm_up} s of warm-up")?;
        if self.quick {
            formatter.write_str("; figures of --quick are not for quoting")?;
        }
        formatter.write_str(".")
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
