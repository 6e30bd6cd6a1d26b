//! Expiry: very many holds are over at the same moment, while another product sells.

use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, TimeDelta, Utc};
use hotrow_tests::{Load, Process, load::Basket, wait};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{Bench, reserved::reserve};
use crate::{
    goods::{Goods, HOT, OTHER},
    report::figures::{Figure, Round},
    shop::{Shop, all_answered, settled},
};

/// Purchases of the other product: some, not as many as fit.
const PURCHASES_PER_SECOND: f64 = 2_000.0;
const CONNECTIONS: usize = 256;
/// What `HOLD_GRACE` is unless told otherwise, which nobody does here.
const HOLD_GRACE: TimeDelta = TimeDelta::seconds(8);
/// Enough to write the new ends of all holds, and to clean up behind that, before they are due.
const UNTIL_DUE: TimeDelta = TimeDelta::seconds(8);
/// Purchases begin so long before the holds are due.
const WARM_UP: TimeDelta = TimeDelta::seconds(1);
/// Far longer than the goal.
const BACK_WITHIN: Duration = Duration::from_mins(1);
/// How long after that an ingest process may take to sell again.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// The worker looks for holds that are over in `holds`, and at `orders` when it settles the end of one.
const END_ALL: [&str; 2] = [
    "update holds set expires_at = $1",
    "update orders set expires_at = $1 where status = 'reserved'",
];
/// How often the rows of the hot product's stock were written to give goods back.
const RELEASES: &str =
    "select count(*)::float8 from inventory_ledger where sku = $1 and released > 0";

/// One round: all that there is of a product is reserved, nobody pays, and all holds are over in the same moment.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let holds = bench.conditions.holds;
    let (shop, orders) = reserve(&Goods::held(i64::try_from(holds)?), holds).await?;
    let mut database = shop.database().await?;
    let (ingest, worker) = shop.start().await?;
    let due = Utc::now() + UNTIL_DUE;
    end_all(&mut database, due - HOLD_GRACE).await?;
    ensure!(
        Utc::now() + WARM_UP < due,
        "the holds were due before their ends were written"
    );
    wait_for(due - WARM_UP).await?;
    let purchases = Load::of(Basket::one(OTHER, 1), &[ingest.address()?])
        .connections(CONNECTIONS)
        .lasting(WARM_UP.to_std()?, BACK_WITHIN)
        .per_second(PURCHASES_PER_SECOND)
        .start()?;
    let back_at = stock_is_back(&mut database, i64::try_from(holds)?).await?;
    purchases.stop();
    let report = purchases.finish().await?;
    ensure!(
        report.refusals() == 0,
        "purchases were refused: {:?}",
        report.refused_by_code()
    );
    all_answered(&report)?;

    let last = buy_one(&ingest).await?;
    settled(&worker, report.accepted.len() + 1).await?;
    shop.check_standing(&orders, &[("expired", orders.len())])
        .await?;
    shop.check_standing(&[last], &[("reserved", 1)]).await?;
    shop.check(&report, report.accepted.len()).await?;
    let round = figures(&shop, &mut database, &report, orders.len()).await?;
    database.close().await?;
    drop((ingest, worker));
    shop.close().await?;
    let seconds = (back_at - due).as_seconds_f64();
    Ok(round.with(Figure::BackSeconds, seconds))
}

/// Makes all holds end in one moment, as the buyers of one second's stampede would have theirs.
async fn end_all(database: &mut PgConnection, at: DateTime<Utc>) -> anyhow::Result<()> {
    let mut transaction = database.begin().await?;
    for statement in END_ALL {
        sqlx::query(statement)
            .bind(at)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    // Settlements leave no such garbage.
    database.execute("vacuum (analyze) holds").await?;
    database.execute("vacuum (analyze) orders").await?;
    Ok(())
}

async fn wait_for(moment: DateTime<Utc>) -> anyhow::Result<()> {
    if let Ok(left) = (moment - Utc::now()).to_std() {
        tokio::time::sleep(left).await;
    }
    Ok(())
}

/// When everybody can see the whole stock again.
async fn stock_is_back(database: &mut PgConnection, stock: i64) -> anyhow::Result<DateTime<Utc>> {
    wait::until("the goods to come back", BACK_WITHIN, async || {
        let left = "select available from inventory where sku = $1 and held = 0";
        let left: Option<i64> = sqlx::query_scalar(left)
            .bind(HOT)
            .fetch_optional(&mut *database)
            .await
            .ok()?;
        (left == Some(stock)).then(Utc::now)
    })
    .await
}

/// Buys one of what is back: the door knows of it.
async fn buy_one(ingest: &Process) -> anyhow::Result<Uuid> {
    let client = ingest.client()?;
    wait::until("the door to open again", OPEN_WITHIN, async || {
        let answer = client.order("c-late", &[(HOT, 1)]).await.ok()?;
        answer.expect(202).ok()?.order_id().ok()
    })
    .await
}

/// What the purchases beside it felt, and how many holds shared a row write.
async fn figures(
    shop: &Shop,
    database: &mut PgConnection,
    report: &hotrow_tests::load::Report,
    holds: usize,
) -> anyhow::Result<Round> {
    let lag = shop.lag(report).await?;
    let releases: f64 = sqlx::query_scalar(RELEASES)
        .bind(HOT)
        .fetch_one(database)
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let holds = holds as f64;
    Ok(Round::default()
        .with(Figure::OrdersPerRowWrite, holds / releases.max(1.0))
        .with(Figure::P50Ms, report.accept_times.ms(0.5))
        .with(Figure::P99Ms, report.accept_times.ms(0.99))
        .with(Figure::P999Ms, report.accept_times.ms(0.999))
        .with(Figure::SettledP50Ms, lag.p50_ms)
        .with(Figure::SettledP99Ms, lag.p99_ms)
        .with(Figure::SettledP999Ms, lag.p999_ms))
}
