//! The live display on standard error: two bars on a terminal, a line per second elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(1);

/// Two bars, one above the other.
pub(crate) struct Display {
    names: [&'static str; 2],
    bars: [ProgressBar; 2],
    is_terminal: bool,
    last_line: Cell<Instant>,
}

/// What a bar shows.
pub(crate) struct Row {
    pub(crate) position: u64,
    pub(crate) of: u64,
    pub(crate) words: String,
}

impl Display {
    pub(crate) fn new(names: [&'static str; 2], of: u64) -> Self {
        let bars = MultiProgress::new();
        let bar = |name: &'static str| {
            let template = "{prefix:>10} {bar:32} {human_pos:>9} of {human_len:<9} {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(of).with_prefix(name).with_style(style))
        };
        Self {
            names,
            bars: names.map(bar),
            is_terminal: stderr().is_terminal(),
            last_line: Cell::new(Instant::now()),
        }
    }

    /// Shows how far things are.
    pub(crate) fn show(&self, rows: &[Row; 2]) {
        for (bar, row) in self.bars.iter().zip(rows) {
            bar.set_length(row.of);
            bar.set_position(row.position);
            bar.set_message(row.words.clone());
        }
        if !self.is_terminal && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            let said: Vec<_> = self
                .names
                .iter()
                .zip(rows)
                .map(|(name, row)| format!("{name} {}: {}", HumanCount(row.position), row.words))
                .collect();
            eprintln!("{}", said.join("; "));
        }
    }

    /// Leaves the last state of the bars on the screen.
    pub(crate) fn close(&self) {
        for bar in &self.bars {
            bar.abandon();
        }
    }
}
