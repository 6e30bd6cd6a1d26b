//! Tables: rows and goals for a person, in a terminal or in a file.

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use indicatif::HumanFloatCount;

use super::{
    figures::{
        Figure::{self, AcceptedPerSecond, AnsweredPerSecond, SettledPerSecond},
        Row,
    },
    goals::Judgement,
};

/// What the heads of the columns leave out.
pub(super) const LEGEND: &str = "\
    answer: from sending a request (open loop: from when it was due) to its answer; settle: from accepting an order to its settled_at, just before the write and the commit;\n\
    cpu: processor time for each order or answer; peak: most memory; ±: the round that is farthest from the median.";

/// Spaces before a column, and before one that begins something else.
const NEAR: u16 = 1;
const APART: u16 = 3;

/// One line a row; figures that no row has are left out.
pub(super) fn rows(rows: &[Row]) -> Table {
    let figures: Vec<_> = Figure::ALL
        .into_iter()
        .filter(|figure| rows.iter().any(|row| row.median(*figure).is_some()))
        .collect();
    let heads = figures.iter().map(|figure| head(*figure).to_owned());
    let mut table = table(["\n\nrow".to_owned()].into_iter().chain(heads));
    for row in rows {
        let label = format!("{}, {}", row.name, row.variant);
        let cells = figures.iter().map(|figure| cell(row, *figure));
        table.add_row([label].into_iter().chain(cells));
    }
    for (column, figure) in table.column_iter_mut().skip(1).zip(&figures) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((if begins(*figure) { APART } else { NEAR }, 0));
    }
    table
}

/// One line for each goal that was measured.
pub(super) fn goals(goals: &[Judgement]) -> Table {
    let mut table = table(["", "figure", "value", "goal"].map(str::to_owned));
    for goal in goals {
        let Some(value) = goal.value else {
            continue;
        };
        let mark = match goal.met {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "–",
        };
        let value = short(value) + goal.unit;
        table.add_row([mark, goal.figure, &value, &goal.goal]);
    }
    for (column, (space, alignment)) in table.column_iter_mut().zip([
        (0, CellAlignment::Left),
        (NEAR, CellAlignment::Left),
        (APART, CellAlignment::Right),
        (APART, CellAlignment::Left),
    ]) {
        column.set_padding((space, 0));
        column.set_cell_alignment(alignment);
    }
    table
}

fn table(heads: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_header(heads.into_iter().collect::<Vec<_>>());
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    table
}

fn head(figure: Figure) -> &'static str {
    match figure {
        Figure::AcceptedPerSecond => "\naccepted\nper s",
        Figure::SettledPerSecond => "\nsettled\nper s",
        Figure::AnsweredPerSecond => "\nanswered\nper s",
        Figure::RefusedPerSecond => "\nrefused\nper s",
        Figure::PaymentsRefused => "\npayments\nrefused",
        Figure::BackSeconds => "stock\nback\ns",
        Figure::P50Ms => "answer\np50\nms",
        Figure::P99Ms => "answer\np99\nms",
        Figure::P999Ms => "answer\np99.9\nms",
        Figure::SettledP50Ms => "settle\np50\nms",
        Figure::SettledP99Ms => "settle\np99\nms",
        Figure::SettledP999Ms => "settle\np99.9\nms",
        Figure::OrdersPerRowWrite => "orders\nper row\nwrite",
        Figure::CpuIngest => "cpu\ningest\nµs",
        Figure::CpuWorker => "cpu\nworker\nµs",
        Figure::CpuBroker => "cpu\nbroker\nµs",
        Figure::CpuDatabase => "cpu\ndatabase\nµs",
        Figure::ToldP50Ms => "told\np50\nms",
        Figure::ToldP99Ms => "told\np99\nms",
        Figure::ListenerKib => "memory\nlistener\nKiB",
        Figure::RateKept => "rate\nbeside\nof 1",
        Figure::P99Grown => "p99\nbeside\nof 1",
        Figure::MemoryIngestMb => "peak\ningest\nMB",
        Figure::MemoryWorkerMb => "peak\nworker\nMB",
    }
}

/// Returns whether a figure is of another kind than the one before it.
fn begins(figure: Figure) -> bool {
    matches!(
        figure,
        AcceptedPerSecond
            | Figure::P50Ms
            | Figure::SettledP50Ms
            | Figure::OrdersPerRowWrite
            | Figure::CpuIngest
            | Figure::ToldP50Ms
            | Figure::MemoryIngestMb
    )
}

fn cell(row: &Row, figure: Figure) -> String {
    /// From seconds for 1,000 to microseconds for one.
    const MICROSECONDS: f64 = 1_000.0;
    let Some(median) = row.median(figure) else {
        return String::new();
    };
    match figure {
        AcceptedPerSecond | SettledPerSecond | AnsweredPerSecond | Figure::RefusedPerSecond => {
            let spread = spread(row, figure).unwrap_or_default();
            format!("{:.0}{spread}", HumanFloatCount(median))
        }
        Figure::PaymentsRefused => format!("{median:.0}"),
        Figure::CpuIngest | Figure::CpuWorker | Figure::CpuBroker | Figure::CpuDatabase => {
            short(median * MICROSECONDS)
        }
        _ => short(median),
    }
}

/// How far the farthest round is from the median; nothing to say of one round.
fn spread(row: &Row, figure: Figure) -> Option<String> {
    let (least, most) = row.spread(figure)?;
    let median = row.median(figure).filter(|median| *median > 0.0)?;
    let farthest = (most - median).max(median - least) / median * 100.0;
    (row.rounds.len() > 1).then(|| format!(" ±{farthest:.0} %"))
}

/// Three digits of a small number, all those before the point of a large one.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{:.0}", HumanFloatCount(value)),
    }
}
