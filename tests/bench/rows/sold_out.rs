//! Sold out: what the many who came too late cost.

use anyhow::ensure;
use hotrow_tests::{Load, load::Basket};

use super::Bench;
use crate::{
    costs::Payers,
    goods::{Goods, HOT},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
};

/// Gone before the warm-up ends.
const STOCK: i64 = 100;
const CONNECTIONS: usize = 256;

/// One round.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let shop = Shop::open(Distance::Near, &Goods::few(STOCK)).await?;
    let (ingest, worker) = shop.start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let before = payers.costs()?;
    let report = Load::of(Basket::one(HOT, 1), &[ingest.address()?])
        .connections(CONNECTIONS)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    settled(&worker, report.accepted.len()).await?;
    let answers = usize::try_from(report.refusals())?;
    let round = payers.add(Round::default(), &before, answers)?;
    let codes = report.refused_by_code();
    ensure!(
        codes.keys().all(|code| code == "sold_out"),
        "refused for other reasons, too: {codes:?}"
    );
    ensure!(
        report.accepted_per_second() == 0.0,
        "orders were accepted after the stock was gone"
    );
    shop.check(&report, usize::try_from(STOCK)?).await?;
    drop((ingest, worker));
    shop.close().await?;
    Ok(round
        .with(Figure::AnsweredPerSecond, report.refused_per_second())
        .with(Figure::P50Ms, report.refuse_times.ms(0.5))
        .with(Figure::P99Ms, report.refuse_times.ms(0.99))
        .with(Figure::P999Ms, report.refuse_times.ms(0.999)))
}
