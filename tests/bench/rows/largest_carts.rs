//! The largest carts that the API takes: how much memory a backlog of them costs both processes.

use std::time::Duration;

use anyhow::ensure;
use hotrow_tests::{Load, load::Choice, wait};
use sqlx::Connection;

use super::{
    Bench,
    drain::pace,
    sale::{accepted, orders_per_row_write},
};
use crate::{
    costs::Payers,
    goods::{self, Goods},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
};

const CONNECTIONS: usize = 4_096;
/// A few thousand a second are accepted on the slowest machine.
const ACCEPTED_WITHIN: Duration = Duration::from_mins(2);

/// One round: the carts are accepted, wait in all partitions, and are settled by a worker that comes later.
/// A door that is short of room may refuse some of them as `overloaded`.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let shop = Shop::open(Distance::Near, &Goods::large()).await?;
    let ingest = shop.ingest().start().await?;
    let servers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: None,
    };
    let before = servers.costs()?;
    let carts = goods::largest_carts();
    let load = Load::of(carts[0].clone(), &[ingest.address()?])
        .baskets(carts, Choice::InTurn)
        .customer_prefix(goods::longest_customer_prefix())
        .keys(goods::longest_key_prefix())
        .connections(CONNECTIONS)
        .orders(u64::MAX)
        .start()?;
    let view = load.view();
    let backlog = bench.conditions.largest_carts;
    wait::until("the carts to be accepted", ACCEPTED_WITHIN, async || {
        (view.progress().accepted >= backlog).then_some(())
    })
    .await?;
    load.stop();
    let report = load.finish().await?;
    let refused = report.refused_by_code();
    ensure!(
        refused.keys().all(|code| code == "overloaded"),
        "carts were refused: {refused:?}"
    );

    let worker = shop.worker().start().await?;
    settled(&worker, report.accepted.len()).await?;
    let payers = Payers {
        worker: Some(&worker),
        ..servers
    };
    let round = payers.add(Round::default(), &before, report.accepted.len())?;
    shop.check(&report, report.accepted.len()).await?;
    let mut database = shop.database().await?;
    let pace = pace(&mut database).await?;
    database.close().await?;
    let row_writes = orders_per_row_write(&worker.metrics().await?);
    drop((ingest, worker));
    shop.close().await?;
    Ok(accepted(round, &report)
        .with(Figure::SettledPerSecond, pace)
        .with(Figure::OrdersPerRowWrite, row_writes))
}
