//! Polls: reads of settled orders, and clients that wait for theirs.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use hotrow_tests::{Load, load::Report};
use uuid::Uuid;

use super::{
    Bench,
    sale::{Sale, accepted},
};
use crate::{
    costs::Payers,
    report::figures::{Figure, Round},
    shop::{Shop, settled},
};

/// Well below what an ingest process keeps.
const CACHED: u64 = 20_000;
/// Several times what an ingest process keeps: asked one after the other, each is forgotten before
/// its turn comes again.
const NOT_CACHED: u64 = 150_000;
const CONNECTIONS: usize = 256;
const WAITING: usize = 5_000;
/// The longest wait that a client can ask for.
const WAIT: Duration = Duration::from_secs(30);

/// Reads of orders that the ingest process knows the outcomes of.
pub(super) async fn cached(bench: &mut Bench) -> anyhow::Result<Round> {
    let shop = Sale::hot(CONNECTIONS).shop().await?;
    let (ingest, worker) = shop.start().await?;
    let bought = buy(ingest.address()?, CACHED).await?;
    settled(&worker, bought.accepted.len()).await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: None,
    };
    let round = read(bench, &shop, payers, bought).await?;
    drop((ingest, worker));
    shop.close().await?;
    Ok(round)
}

/// Reads of orders that a new ingest process has to look up.
pub(super) async fn not_cached(bench: &mut Bench) -> anyhow::Result<Round> {
    let shop = Sale::hot(CONNECTIONS).shop().await?;
    let (ingest, worker) = shop.start().await?;
    let bought = buy(ingest.address()?, NOT_CACHED).await?;
    settled(&worker, bought.accepted.len()).await?;
    drop((ingest, worker));
    let ingest = shop.ingest().start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: None,
    };
    let round = read(bench, &shop, payers, bought).await?;
    drop(ingest);
    shop.close().await?;
    Ok(round)
}

async fn buy(target: SocketAddr, orders: u64) -> anyhow::Result<Report> {
    Sale::hot(CONNECTIONS)
        .load(target)?
        .orders(orders)
        .run()
        .await
}

async fn read(
    bench: &Bench,
    shop: &Shop,
    payers: Payers<'_>,
    bought: Report,
) -> anyhow::Result<Round> {
    shop.check(&bought, bought.accepted.len()).await?;
    let orders: Vec<Uuid> = bought.accepted;
    let targets = payers
        .ingest
        .map(hotrow_tests::Process::address)
        .transpose()?;
    let before = payers.costs()?;
    let report = Load::reads(orders, targets.as_slice())
        .connections(CONNECTIONS)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    ensure!(
        report.shown.keys().all(|status| status == "confirmed") && report.refusals() == 0,
        "settled orders were not shown as such: {:?}, {:?}",
        report.shown,
        report.refused
    );
    let answers = usize::try_from(report.shown.values().sum::<u64>())?;
    let round = payers.add(Round::default(), &before, answers)?;
    Ok(round
        .with(Figure::AnsweredPerSecond, report.shown_per_second())
        .with(Figure::P50Ms, report.show_times.ms(0.5))
        .with(Figure::P99Ms, report.show_times.ms(0.99))
        .with(Figure::P999Ms, report.show_times.ms(0.999)))
}

/// 5,000 clients who buy, wait for the outcome, and buy again.
pub(super) async fn waiting(bench: &mut Bench) -> anyhow::Result<Round> {
    let sale = Sale::hot(WAITING);
    let shop = sale.shop().await?;
    let (ingest, worker) = shop.start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let before = payers.costs()?;
    let report = sale
        .load(ingest.address()?)?
        .and_wait(WAIT)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    settled(&worker, report.accepted.len()).await?;
    let round = payers.add(Round::default(), &before, report.accepted.len())?;
    ensure!(
        report.told.keys().all(|status| status == "confirmed") && report.refusals() == 0,
        "orders were not confirmed: {:?}, {:?}",
        report.told,
        report.refused
    );
    shop.check(&report, report.accepted.len()).await?;
    let lag = shop.lag(&report).await?;
    drop((ingest, worker));
    shop.close().await?;
    Ok(accepted(round, &report)
        .with(Figure::SettledPerSecond, lag.settled_per_second())
        .with(Figure::AnsweredPerSecond, report.told_per_second())
        .with(Figure::P50Ms, report.tell_times.ms(0.5))
        .with(Figure::P99Ms, report.tell_times.ms(0.99))
        .with(Figure::P999Ms, report.tell_times.ms(0.999)))
}
