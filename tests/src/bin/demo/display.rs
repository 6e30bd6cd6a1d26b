//! The live display on standard error: two bars on a terminal, a line per second elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use hotrow_tests::load::Progress;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::stampede::Settled;

const LINE_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Display {
    answered: ProgressBar,
    settled: ProgressBar,
    is_terminal: bool,
    last_line: Cell<Instant>,
}

impl Display {
    pub(crate) fn new(orders: u64) -> Self {
        let bars = MultiProgress::new();
        let bar = |name: &'static str| {
            let template = "{prefix:>10} {bar:32} {human_pos:>9} of {human_len:<9} {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(orders).with_prefix(name).with_style(style))
        };
        Self {
            answered: bar("answered"),
            settled: bar("settled"),
            is_terminal: stderr().is_terminal(),
            last_line: Cell::new(Instant::now()),
        }
    }

    /// Shows how far the buyers and the workers are.
    pub(crate) fn show(&self, progress: Progress, settled: Settled) {
        let Progress {
            accepted,
            refused,
            unanswered,
        } = progress;
        let answered = accepted + refused;
        let answers = format!(
            "{} accepted, {} refused",
            HumanCount(accepted),
            HumanCount(refused)
        );
        self.answered.set_position(answered + unanswered);
        self.answered.set_message(answers.clone());

        // An order may be settled before its buyer has read that it was accepted.
        let orders = settled.orders.min(accepted);
        let confirmed = settled.confirmed.min(orders);
        let outcomes = format!(
            "{} confirmed, {} came too late; {} row writes",
            HumanCount(confirmed),
            HumanCount(orders - confirmed),
            HumanCount(settled.row_writes)
        );
        // Only what was accepted can be settled.
        self.settled.set_length(accepted);
        self.settled.set_position(orders);
        self.settled.set_message(outcomes.clone());

        if !self.is_terminal && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            eprintln!(
                "answered {}: {answers}; settled {}: {outcomes}",
                HumanCount(answered),
                HumanCount(orders)
            );
        }
    }

    /// Leaves the last state of the bars on the screen.
    pub(crate) fn close(&self) {
        self.answered.abandon();
        self.settled.abandon();
    }
}
