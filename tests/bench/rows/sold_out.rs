//! Sold out: what the many who came too late cost.

use anyhow::ensure;
use hotrow_tests::{Load, load::Basket};

use super::Bench;
use crate::{
    costs::Payers,
    goods::{self, Goods, HOT},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
};

/// Gone before the warm-up ends.
const STOCK: i64 = 100;
const CONNECTIONS: usize = 256;

/// The idempotency keys of those who came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    None,
    /// A new one for each order, so that no earlier life of it can be found.
    Fresh,
}

/// One round.
pub(super) async fn round(bench: &mut Bench, keys: Keys) -> anyhow::Result<Round> {
    let shop = Shop::open(Distance::Near, &Goods::few(STOCK)).await?;
    let (ingest, worker) = shop.start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let before = payers.costs()?;
    let mut load = Load::of(Basket::one(HOT, 1), &[ingest.address()?])
        .connections(CONNECTIONS)
        .lasting(bench.conditions.warm_up, bench.conditions.measured);
    if keys == Keys::Fresh {
        load = load.keys(goods::key_prefix());
    }
    let report = load.run().await?;
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
