//! `cargo demo`: a flash sale on this machine, from an empty database to the audited result.

mod display;
mod figures;
mod goods;
mod holds;
mod rules;
mod stage;
mod stampede;
mod suggestions;
mod webhooks;
mod window;

use std::process::ExitCode;

use clap::Parser;
use hotrow_tests::{Settings, alias};
use serde::Serialize;
use serde_json::json;
use tokio::signal::ctrl_c;

use self::{
    figures::Figures,
    goods::{HOLD, LAMP, LAMPS, SKU},
    stage::Stage,
    webhooks::Receiver,
};

/// Starts the servers and Hotrow, lets a stampede of buyers in, then sells a second product with holds of a few
/// seconds, and a third by the clock, two pieces per customer, while bots try for more, and says what happened. Or, with
/// --stay, opens a shop window in which a person buys, and watches a stampede.
///
/// Uses the servers at `DATABASE_URL` and `AMQP_URL` where these are set, else its own.
#[derive(Debug, Clone, Copy, Parser)]
#[command(name = "cargo demo", version)]
struct Arguments {
    /// Orders, one item each, all for the same product
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    orders: u64,
    /// Units of the product that are for sale
    #[arg(long, default_value_t = 10_000)]
    stock: u32,
    /// Connections that the orders come in by
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Print the result as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Instead of all that, serve the shop window, and print its address and commands to try, until Ctrl-C
    #[arg(long, conflicts_with_all = ["orders", "stock", "connections", "json"])]
    stay: bool,
}

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse_from(alias::arguments());
    let shown = tokio::select! {
        shown = show(arguments) => shown,
        // Dropping the show ends its processes and servers.
        _ = ctrl_c() => return ExitCode::from(INTERRUPTED),
    };
    match shown {
        Ok(Shown::Played { is_right: true }) => ExitCode::SUCCESS,
        Ok(Shown::Played { is_right: false }) => ExitCode::FAILURE,
        Ok(Shown::Opened(shop)) => {
            // An error here is that Ctrl-C cannot be waited for: then nothing can stay.
            let _ = ctrl_c().await;
            drop(shop);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What there was to see.
enum Shown {
    /// All acts, to their end.
    Played { is_right: bool },
    /// The shop window, which stays open.
    Opened(Box<window::Shop>),
}

async fn show(arguments: Arguments) -> anyhow::Result<Shown> {
    if arguments.stay {
        let shop = window::open().await?;
        return Ok(Shown::Opened(Box::new(shop)));
    }
    let is_right = play(arguments).await?;
    Ok(Shown::Played { is_right })
}

/// Everything in one, for a program.
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    stampede: &'a Figures,
    #[serde(flatten)]
    holds: &'a holds::Figures,
    rules: &'a rules::Figures,
}

/// Plays all acts. Returns whether all was right.
async fn play(arguments: Arguments) -> anyhow::Result<bool> {
    // Pages of any origin may call, as from a front end that somebody tries out here.
    let doors = |ingest: Settings| ingest.unlimited().set("CORS_ORIGINS", "*");
    let stage = Stage::set(doors).await?;
    let hold = json!({ "hold_seconds": HOLD.as_secs() });
    stage
        .put_up(SKU, "Chair", arguments.stock.into(), None)
        .await?;
    stage.put_up(LAMP, "Lamp", LAMPS, Some(hold)).await?;
    let report = stampede::run(&stage, arguments).await?;
    let stampede = Figures::read(&stage, arguments, &report).await?;
    if !arguments.json {
        println!("{stampede}");
    }
    // Not before: the confirmed orders of the stampede would all be delivered.
    let receiver = Receiver::register(&stage.administrator()?).await?;
    let act = holds::run(&stage).await?;
    let holds = holds::Figures::read(&stage, act, &report.accepted, &receiver).await?;
    if !arguments.json {
        println!("{holds}");
    }
    let act = rules::run(&stage).await?;
    let rules = rules::Figures::read(&stage, act).await?;
    if arguments.json {
        let outcome = Outcome {
            stampede: &stampede,
            holds: &holds,
            rules: &rules,
        };
        println!("{}", serde_json::to_string(&outcome)?);
        // No member of the object has room for it.
        if !holds.is_right() {
            eprintln!("{}", holds.judgement());
        }
        if !rules.is_right() {
            eprintln!("{}", rules.judgement());
        }
    } else {
        println!("{rules}");
    }
    Ok(stampede.is_right() && holds.is_right() && rules.is_right())
}
