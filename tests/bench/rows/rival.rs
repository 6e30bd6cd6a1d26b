//! What people would build instead, under the same load and with the same durability.

use anyhow::ensure;
use hotrow_tests::{Load, load::Basket};

use super::{Bench, sale::accepted};
use crate::{
    costs::Payers,
    goods::{HOT, PLENTY},
    report::figures::{Figure, Round},
    rivals::{self, Rival},
    shop::{Distance, Shop},
};

/// One round. A rival settles before it answers, so what is accepted is settled.
pub(super) async fn round(
    bench: &mut Bench,
    rival: Rival,
    distance: Distance,
    connections: usize,
) -> anyhow::Result<Round> {
    let shop = Shop::empty(distance).await?;
    rivals::open_shop(&shop.place.database_url, HOT, PLENTY).await?;
    let process = rival.start(&shop.database_url).await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&process),
        worker: None,
    };
    let before = payers.costs()?;
    let report = Load::of(Basket::one(HOT, 1), &[process.address()?])
        .connections(connections)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    let round = payers.add(Round::default(), &before, report.accepted.len())?;
    ensure!(
        report.refusals() == 0 && report.unanswered.is_empty(),
        "orders were refused or not answered: {:?}, {}",
        report.refused,
        report.unanswered.len()
    );
    rivals::check(&shop.place.database_url, PLENTY, &report.accepted).await?;
    drop(process);
    shop.close().await?;
    Ok(accepted(round, &report)
        .with(Figure::SettledPerSecond, report.accepted_per_second())
        .with(Figure::OrdersPerRowWrite, 1.0))
}
