//! `cargo bench`: what Hotrow is measured by, beside what people would build instead.
//!
//! Every pass goes once through all rows, and a row's figures are the medians over the passes. What is
//! accepted in a round is checked against the conservation law before the round counts.

mod costs;
mod goods;
mod report;
mod rivals;
mod rows;
mod shop;
mod tokens;

use std::{process::ExitCode, thread, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use hotrow_tests::{processes, servers};
use mimalloc::MiMalloc;
use tokio::signal::ctrl_c;

use self::{
    report::{Report, Run, figures::Row},
    rivals::Rival,
    rows::{Bench, Conditions, Entry, PLAN, Warehouse, listen::PagesArguments},
};

/// The same as Hotrow's: the rivals and the ceilings are measured with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Hotrow on this machine, beside the designs that it replaces.
///
/// Uses the servers at `DATABASE_URL` and `AMQP_URL` where these are set, else its own. Writes
/// report.json and report.svg to the folder bench in cargo's target folder.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --", bin_name = "cargo bench --", version)]
struct Arguments {
    /// One short round of each row, to see that all is well; its figures are not for quoting
    #[arg(long)]
    quick: bool,
    /// Only the rows of that name, or of those names: hotrow,hold
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// This program is also the servers that Hotrow is compared with, and pages that listen.
#[derive(Debug, Subcommand)]
enum Role {
    /// Serve one of the designs that Hotrow is compared with, until killed
    #[command(hide = true)]
    Rival { rival: Rival },
    /// Be pages that listen, until standard input says what they have to hear, or ends
    #[command(hide = true)]
    Pages(PagesArguments),
}

/// Three or more: a median of fewer says nothing.
const PASSES: usize = 3;

const FULL: Conditions = Conditions {
    warm_up: Duration::from_millis(500),
    measured: Duration::from_millis(1_500),
    backlog: 500_000,
    largest_carts: 50_000,
    holds: 100_000,
    listeners: 20_000,
    stored: 10_000_000,
};

/// On fewer cores starting, checking and filling take longer, which shorter rounds make up for.
const FULL_ON_FEW_CORES: Conditions = Conditions {
    warm_up: Duration::from_millis(400),
    measured: Duration::from_millis(900),
    largest_carts: 25_000,
    ..FULL
};
const FEW_CORES: usize = 3;

const QUICK: Conditions = Conditions {
    warm_up: Duration::from_millis(300),
    measured: Duration::from_millis(700),
    backlog: 50_000,
    largest_carts: 8_000,
    holds: 20_000,
    listeners: 2_000,
    stored: 500_000,
};

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn names() -> clap::builder::PossibleValuesParser {
    let mut names = Vec::new();
    for entry in &PLAN {
        if !names.contains(&entry.name) {
            names.push(entry.name);
        }
    }
    names.into()
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::select! {
        ended = play(&arguments) => ended,
        // Dropping what runs ends its processes and servers.
        _ = ctrl_c() => return ExitCode::from(INTERRUPTED),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.role {
        Some(Role::Rival { rival }) => rival.serve().await,
        Some(Role::Pages(pages)) => pages.listen().await,
        None => measure(arguments).await,
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let entries: Vec<_> = PLAN
        .iter()
        .filter(|entry| {
            let only = &arguments.only;
            only.is_empty() || only.iter().any(|name| name == entry.name)
        })
        .collect();
    let (conditions, passes) = if arguments.quick {
        (QUICK, 1)
    } else if thread::available_parallelism()?.get() <= FEW_CORES {
        (FULL_ON_FEW_CORES, PASSES)
    } else {
        (FULL, PASSES)
    };
    let (servers, ()) = tokio::try_join!(servers::shared(), processes::build())?;
    let mut rows: Vec<_> = entries
        .iter()
        .map(|Entry { name, variant, .. }| Row {
            name,
            variant,
            rounds: Vec::with_capacity(passes),
        })
        .collect();
    let mut bench = Bench {
        conditions,
        best: None,
        warehouse: Warehouse::default(),
    };
    for pass in 1..=passes {
        bench.best = None;
        for (entry, row) in entries.iter().zip(&mut rows) {
            let measured = (entry.measure)(&mut bench).await;
            let round = measured.with_context(|| format!("{}, {}", entry.name, entry.variant))?;
            eprintln!(
                "pass {pass} of {passes}  {:<16} {:<20} {round}",
                entry.name, entry.variant
            );
            row.rounds.push(round);
        }
    }
    bench.warehouse.close().await?;
    let run = Run {
        quick: arguments.quick,
        rounds: passes,
        warm_up: conditions.warm_up,
        measured: conditions.measured,
    };
    let report = Report::of(servers, run, rows).await?;
    let folder = report.write()?;
    println!("\n{report}\n\nThe report is in {}", folder.display());
    Ok(())
}
