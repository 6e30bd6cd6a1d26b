//! The chart: orders settled per second of one hot product, Hotrow beside what it replaces.
//!
//! It stands on its own ground, because the pages that show it may be light or dark, and has room to
//! spare beside every text, because the fonts of those who look at it are not known here.

mod sheet;

use indicatif::HumanFloatCount;

use self::sheet::{AXIS, Ink, Sheet, Words};
use super::{
    Report,
    figures::{Figure::SettledPerSecond, Id, Row, best},
    goals::{
        FAR_HOTROW, FAR_ONE_STATEMENT, FAR_ROW_LOCK, HOLD, HOTROW, HOTROW_64, HOTROW_256,
        ONE_STATEMENT, PAY, QUEUE_PER_ORDER, ROW_LOCK,
    },
};

const HEADING: &str = "One hot product: orders settled per second";

const PANELS: [Panel; 3] = [
    Panel {
        title: "The database on the same machine",
        base: ROW_LOCK,
        bars: &[
            rival(
                &[ROW_LOCK],
                "row-lock",
                "a transaction for each order, with select … for update",
            ),
            rival(
                &ONE_STATEMENT,
                "one-statement",
                "a single statement for each order",
            ),
            rival(
                &[QUEUE_PER_ORDER],
                "queue-per-order",
                "Hotrow with messages and batches of one order",
            ),
            hotrow(&[HOTROW_64], "Hotrow, 64 connections"),
            hotrow(&[HOTROW_256], "Hotrow, 256 connections"),
            hotrow(&[HOTROW], "Hotrow, 1,024 connections"),
        ],
    },
    Panel {
        title: "Goods that are held until they are paid",
        base: ROW_LOCK,
        bars: &[
            hotrow(&[HOLD], "reserved, 1,024 connections"),
            hotrow(&[PAY], "paid, 256 connections"),
        ],
    },
    Panel {
        title: "The database 1 ms away, as in a cloud",
        base: FAR_ROW_LOCK,
        bars: &[
            rival(&[FAR_ROW_LOCK], "row-lock", ""),
            rival(&[FAR_ONE_STATEMENT], "one-statement", ""),
            hotrow(&[FAR_HOTROW], "Hotrow, 1,024 connections"),
        ],
    },
];

/// Heights and lengths, in pixels.
const MARGIN: i32 = 28;
const TITLE: i32 = 62;
const PANEL_TITLE: i32 = 34;
const BAR: i32 = 31;
const BAR_THICKNESS: i32 = 19;
const PANEL_GAP: i32 = 22;
const TICKS: i32 = 38;
const NOTE: i32 = 17;
/// Wider than a digit of a value is in any usual font.
const DIGIT: i32 = 9;
const SPACE: i32 = 8;

/// Bars under one title, each of which says how many times `base` it is.
struct Panel {
    title: &'static str,
    base: Id,
    bars: &'static [Bar],
}

struct Bar {
    /// Of these rows, the best is drawn.
    rows: &'static [Id],
    name: &'static str,
    /// What a rival does; Hotrow's bars say how far ahead they are.
    says: Option<&'static str>,
}

const fn rival(rows: &'static [Id], name: &'static str, says: &'static str) -> Bar {
    Bar {
        rows,
        name,
        says: Some(says),
    }
}

const fn hotrow(rows: &'static [Id], name: &'static str) -> Bar {
    Bar {
        rows,
        name,
        says: None,
    }
}

/// An SVG, if any of the rows that it shows was measured.
pub(super) fn draw(report: &Report) -> anyhow::Result<Option<String>> {
    let panels: Vec<_> = PANELS
        .iter()
        .map(|panel| (panel, panel.measured(&report.rows)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let ends = panels
        .iter()
        .flat_map(|(_, bars)| bars)
        .filter_map(|(_, row)| Some(row.spread(SettledPerSecond)?.1));
    let Some(most) = ends.reduce(f64::max) else {
        return Ok(None);
    };
    let notes = notes(report);
    let drawn: i32 = panels.iter().map(|(_, bars)| panel_height(bars)).sum();
    let height = TITLE + drawn - PANEL_GAP + TICKS + NOTE * count(&notes) + MARGIN / 2;

    let mut svg = String::new();
    let sheet = Sheet::new(&mut svg, height, most)?;
    let title = Words::of(Ink::Plain, 22.0).bold();
    sheet.text(HEADING, (MARGIN, TITLE / 2 + 2), title)?;
    let mut top = TITLE;
    for (panel, bars) in &panels {
        let base = best(&report.rows, &[panel.base], SettledPerSecond);
        draw_panel(&sheet, panel.title, bars, base, top)?;
        top += panel_height(bars);
    }
    top -= PANEL_GAP;
    for value in sheet.ticks() {
        let words = Words::of(Ink::Quiet, 11.5).centred();
        sheet.text(&whole(value), (sheet.x(value), top + 12), words)?;
    }
    top += TICKS;
    for (note, line) in notes.iter().zip(0..) {
        let place = (MARGIN, top + NOTE * line + NOTE / 2);
        sheet.text(note, place, Words::of(Ink::Quiet, 11.5))?;
    }
    sheet.finish()?;
    Ok(Some(svg))
}

fn draw_panel(
    sheet: &Sheet<'_>,
    title: &str,
    bars: &[(&Bar, &Row)],
    base: Option<&Row>,
    top: i32,
) -> anyhow::Result<()> {
    let (first, last) = (top + PANEL_TITLE, top + panel_height(bars) - PANEL_GAP);
    for value in sheet.ticks() {
        sheet.line((sheet.x(value), first), (sheet.x(value), last), Ink::Grid)?;
    }
    let words = Words::of(Ink::Plain, 14.0).bold();
    sheet.text(title, (AXIS.0, top + PANEL_TITLE / 2 - 2), words)?;
    for ((bar, row), line) in bars.iter().zip(0..) {
        draw_bar(sheet, bar, row, base, first + BAR * line + BAR / 2)?;
    }
    Ok(())
}

/// Name, bar, spread, value, and what there is to say of it, around a line at `y`.
fn draw_bar(
    sheet: &Sheet<'_>,
    bar: &Bar,
    row: &Row,
    base: Option<&Row>,
    y: i32,
) -> anyhow::Result<()> {
    let (Some(median), Some((least, most))) =
        (row.median(SettledPerSecond), row.spread(SettledPerSecond))
    else {
        return Ok(());
    };
    let (ink, words) = match bar.says {
        Some(_) => (Ink::Rival, Words::of(Ink::Plain, 13.0)),
        None => (Ink::Hot, Words::of(Ink::Hot, 13.0).bold()),
    };
    sheet.text(bar.name, (AXIS.0 - SPACE, y), words.to_the_left())?;
    let (from, to) = (y - BAR_THICKNESS / 2, y + BAR_THICKNESS / 2);
    sheet.rectangle((AXIS.0, from), (sheet.x(median), to), ink)?;
    if row.rounds.len() > 1 {
        sheet.line((sheet.x(least), y), (sheet.x(most), y), Ink::Plain)?;
    }
    let value = whole(median);
    let beside = sheet.x(median.max(most)) + SPACE;
    sheet.text(&value, (beside, y), words)?;
    let says = match (
        bar.says,
        base.and_then(|base| row.ratio(base, SettledPerSecond)),
    ) {
        (Some(says), _) => says.to_owned(),
        (None, Some(ratio)) => format!("{ratio:.0} × row-lock"),
        (None, None) => String::new(),
    };
    let behind = beside + DIGIT * count(value.as_bytes()) + SPACE;
    sheet.text(&says, (behind, y), Words::of(Ink::Quiet, 12.0))
}

impl Panel {
    fn measured<'a>(&self, rows: &'a [Row]) -> Vec<(&'static Bar, &'a Row)> {
        self.bars
            .iter()
            .filter_map(|bar| Some((bar, best(rows, bar.rows, SettledPerSecond)?)))
            .collect()
    }
}

fn panel_height(bars: &[(&Bar, &Row)]) -> i32 {
    PANEL_TITLE + BAR * count(bars) + PANEL_GAP
}

fn notes(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    vec![
        format!(
            "Load, RabbitMQ {} and PostgreSQL {} on one machine: {}, {} cores, {:.0} GiB, Linux {}, {}.",
            machine.rabbitmq,
            machine.postgresql,
            machine.cpu,
            machine.cores,
            machine.memory_gib,
            machine.kernel,
            machine.date
        ),
        format!(
            "Durable: fsync {}, synchronous_commit {}, publisher confirms on, quorum queues. \
             Every accepted order was checked afterwards.",
            machine.fsync, machine.synchronous_commit
        ),
        report.run.to_string(),
    ]
}

fn whole(value: f64) -> String {
    format!("{:.0}", HumanFloatCount(value))
}

/// Of a handful.
fn count<T>(things: &[T]) -> i32 {
    i32::try_from(things.len()).unwrap_or(i32::MAX)
}
