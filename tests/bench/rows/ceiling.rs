//! Ceilings: what this machine could do at most, in one part alone.

use std::net::SocketAddr;

use anyhow::ensure;
use hotrow_tests::{
    Load,
    law::Verdict,
    load::{Basket, Report, Times},
};
use sqlx::Connection;
use uuid::Uuid;

use super::{Bench, sale::Sale};
use crate::{
    costs::Payers,
    goods::HOT,
    report::figures::{Figure, Round},
    rivals::{Rival, raw},
    shop::{Distance, Shop},
};

const CONNECTIONS: usize = 256;
/// Orders to ask the empty handler for. All get the same answer.
const ASKED: u128 = 1_000;

/// PostgreSQL alone: one connection that settles batches of 1,000 orders.
pub(super) async fn raw(bench: &mut Bench) -> anyhow::Result<Round> {
    let shop = Sale::hot(1).shop().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: None,
        worker: None,
    };
    let conditions = bench.conditions;
    let before = payers.costs()?;
    let settled = raw::settle(&shop.database_url, conditions.warm_up, conditions.measured).await?;
    let round = payers.add(Round::default(), &before, settled.orders.len())?;
    let mut database = shop.database().await?;
    let verdict = Verdict::read(&mut database, &settled.orders).await?;
    database.close().await?;
    ensure!(verdict.holds(), "the conservation law is broken: {verdict}");
    shop.close().await?;
    Ok(round.with(Figure::SettledPerSecond, settled.per_second))
}

/// HTTP and JSON alone: purchases.
pub(super) async fn empty_post(bench: &mut Bench) -> anyhow::Result<Round> {
    let load = |target| Load::of(Basket::one(HOT, 1), &[target]);
    empty(bench, load, |report| {
        (report.accepted_per_second(), &report.accept_times)
    })
    .await
}

/// HTTP and JSON alone: reads.
pub(super) async fn empty_get(bench: &mut Bench) -> anyhow::Result<Round> {
    let load = |target| Load::reads((0..ASKED).map(Uuid::from_u128).collect(), &[target]);
    empty(bench, load, |report| {
        (report.shown_per_second(), &report.show_times)
    })
    .await
}

async fn empty(
    bench: &Bench,
    load: fn(SocketAddr) -> Load,
    measured: fn(&Report) -> (f64, &Times),
) -> anyhow::Result<Round> {
    // It has no tables: the servers idle here, and that is counted.
    let shop = Shop::empty(Distance::Near).await?;
    let process = Rival::Empty.start(&shop.database_url).await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&process),
        worker: None,
    };
    let before = payers.costs()?;
    let report = load(process.address()?)
        .connections(CONNECTIONS)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    let answers = usize::try_from(report.answered())?;
    let round = payers.add(Round::default(), &before, answers)?;
    ensure!(report.refusals() == 0, "an empty handler refused");
    drop(process);
    shop.close().await?;
    let (per_second, times) = measured(&report);
    Ok(round
        .with(Figure::AnsweredPerSecond, per_second)
        .with(Figure::P50Ms, times.ms(0.5))
        .with(Figure::P99Ms, times.ms(0.99))
        .with(Figure::P999Ms, times.ms(0.999)))
}
