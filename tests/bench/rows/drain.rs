//! A drain: a backlog waits in the broker, and only workers run.

use sqlx::{Connection, PgConnection};

use super::{
    Bench,
    sale::{Sale, orders_per_row_write},
};
use crate::{
    costs::Payers,
    report::figures::{Figure, Round},
    shop::settled,
};

/// Orders per second between the first and the last commit, without the orders of the first: when
/// those began is not known.
const PACE: &str = "
    select coalesce(count(*) filter (where settled_at > first)
                    / nullif(extract(epoch from max(settled_at) - min(first)), 0), 0)::float8
    from orders, (select min(settled_at) as first from orders) as start";

/// One round.
pub(super) async fn round(bench: &mut Bench, sale: Sale) -> anyhow::Result<Round> {
    let shop = sale.shop().await?;
    let mut ingest = shop.ingest().start().await?;
    let load = sale.load(ingest.address()?)?;
    let report = load.orders(bench.conditions.backlog).run().await?;
    ingest.terminate()?;
    ingest.ended(std::time::Duration::from_secs(30)).await?;

    let servers = Payers {
        place: &shop.place,
        ingest: None,
        worker: None,
    };
    let before = servers.costs()?;
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
    drop(worker);
    shop.close().await?;
    Ok(round
        .with(Figure::SettledPerSecond, pace)
        .with(Figure::OrdersPerRowWrite, row_writes))
}

/// How fast everything in the orders table was settled.
pub(super) async fn pace(database: &mut PgConnection) -> anyhow::Result<f64> {
    Ok(sqlx::query_scalar(PACE).fetch_one(database).await?)
}
