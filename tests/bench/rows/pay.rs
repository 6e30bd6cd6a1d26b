//! Payments: reserved orders are confirmed, when it is quiet and in a stampede.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use hotrow_tests::{
    Load, Mode, Process, Proxy, load,
    load::{Basket, Report, Window},
    processes::ADMIN_TOKEN,
};
use sqlx::Connection;

use super::{
    Bench,
    reserved::reserve,
    sale::{self, Sale, accepted},
};
use crate::{
    costs::Payers,
    goods::{Goods, HOT, PLENTY},
    report::figures::{Figure, Round},
    shop::{Shop, all_answered, paid, settled},
};

const CONNECTIONS: usize = 256;
/// So many orders are reserved for each request that the time of a round is enough for: payments must not run out.
const RESERVED_SHARE: f64 = 1.5;
/// Purchases may have had a bad moment, and payments not.
const RESERVED_MIN: u64 = 30_000;

/// In a stampede, the broker is so far away, one way, and an envelope has so few orders. Together they bound what the
/// pipeline takes to some thousand orders per second, whatever the machine: three times what it takes without such
/// bounds is more than a load on the same machine can ask for.
const BROKER_DISTANCE: Duration = Duration::from_millis(10);
const ENVELOPE_ORDERS: &str = "128";
/// As many as a lane, which has room for 16 envelopes, takes without refusing any.
const BUYERS_WITHIN_BOUNDS: usize = 1_024;
/// Many more than it takes.
const BUYERS: usize = 4_096;
/// Of what is settled, so much is asked for.
const STAMPEDE: f64 = 3.0;
const PAYMENTS_PER_SECOND: f64 = 500.0;
/// The longest wait that a client can ask for.
const WAIT: Duration = Duration::from_secs(30);
/// A percentile of payments needs some thousands.
const MEASURED_MIN: Duration = Duration::from_secs(3);
/// Descriptors that an ingest process has for other things than connections.
const RESERVE: usize = 1_500;

/// Payments per second of the measured part.
const PAID: &str = "
    select count(*) / extract(epoch from $2 - $1)::float8
    from order_changes
    where status = 'confirmed' and at >= $1 and at < $2";

/// One round of a closed loop: payments and nothing else.
pub(super) async fn closed_loop(bench: &mut Bench) -> anyhow::Result<Round> {
    let per_second = sale::best(bench, Sale::hot(CONNECTIONS)).await?;
    let conditions = bench.conditions;
    let length = conditions.warm_up + conditions.measured;
    let enough = count(per_second * length.as_secs_f64() * RESERVED_SHARE);
    let (shop, orders) = reserve(&Goods::held(PLENTY), enough.max(RESERVED_MIN)).await?;
    let (ingest, worker) = shop.start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let before = payers.costs()?;
    let report = Load::payments(orders.clone(), ADMIN_TOKEN, &[ingest.address()?])
        .connections(CONNECTIONS)
        .lasting(conditions.warm_up, conditions.measured)
        .run()
        .await?;
    let payments = report.accepted.len();
    paid(&worker, payments).await?;
    let round = payers.add(Round::default(), &before, payments)?;
    all_answered(&report)?;
    ensure!(
        report.refusals() == 0,
        "payments were refused: {:?}",
        report.refused_by_code()
    );
    ensure!(
        payments < orders.len(),
        "all reserved orders were paid before the time was over"
    );
    let unpaid = orders.len() - payments;
    shop.check_standing(&report.accepted, &[("confirmed", payments)])
        .await?;
    shop.check_standing(&orders, &[("confirmed", payments), ("reserved", unpaid)])
        .await?;
    let settled_per_second = paid_per_second(&shop, &report).await?;
    let row_writes = worker.metrics().await?.sum("hotrow_row_writes_total", &[]);
    drop((ingest, worker));
    shop.close().await?;
    Ok(accepted(round, &report)
        .with(Figure::SettledPerSecond, settled_per_second)
        .with(
            Figure::OrdersPerRowWrite,
            float(payments) / row_writes.max(1.0),
        ))
}

/// One round: purchases come three times as fast as they are settled, and payments meanwhile.
pub(super) async fn in_a_stampede(bench: &mut Bench) -> anyhow::Result<Round> {
    // The ingest process gets the same limit.
    load::allow_open_files(BUYERS + CONNECTIONS + RESERVE)?;
    let warm_up = bench.conditions.warm_up;
    let measured = bench.conditions.measured.max(MEASURED_MIN);
    let length = warm_up + measured;
    let enough = count(PAYMENTS_PER_SECOND * length.as_secs_f64() * RESERVED_SHARE);
    let (shop, orders) = reserve(&Goods::held(PLENTY), enough).await?;
    let wire = Proxy::in_front_of(&shop.place.amqp_url).await?;
    wire.set(Mode::Delay(BROKER_DISTANCE)).await?;
    let ingest = shop.ingest();
    let ingest = ingest
        .set("AMQP_URL", wire.url(&shop.place.amqp_url)?)
        .set("ENVELOPE_ORDERS_MAX", ENVELOPE_ORDERS);
    let worker = shop.worker();
    let (ingest, worker) = tokio::try_join!(ingest.start(), worker.start())?;
    let before = within_bounds(bench, &ingest).await?;
    settled(&worker, before.accepted.len()).await?;

    let rate = before.accepted_per_second() * STAMPEDE;
    let purchases = Load::of(Basket::one(HOT, 1), &[ingest.address()?])
        .connections(BUYERS)
        .lasting(warm_up, measured)
        .per_second(rate);
    let payments = Load::payments(orders.clone(), ADMIN_TOKEN, &[ingest.address()?])
        .connections(CONNECTIONS)
        .threads(1)
        .and_wait(WAIT)
        .lasting(warm_up, measured)
        .per_second(PAYMENTS_PER_SECOND);
    let (purchases, payments) = tokio::try_join!(purchases.run(), payments.run())?;
    settled(&worker, before.accepted.len() + purchases.accepted.len()).await?;
    let refused = payments.refusals();
    let taken = usize::try_from(payments.answered() - refused)?;
    paid(&worker, taken).await?;

    check_stampede(&[&before, &purchases], &payments)?;
    let unpaid = orders.len() - taken;
    shop.check_standing(&orders, &[("confirmed", taken), ("reserved", unpaid)])
        .await?;
    let bought = [before.accepted, purchases.accepted.clone()].concat();
    shop.check_standing(&bought, &[("reserved", bought.len())])
        .await?;
    let lag = shop.lag(&purchases).await?;
    drop((ingest, worker, wire));
    shop.close().await?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let refused = refused as f64;
    Ok(Round::default()
        .with(Figure::AcceptedPerSecond, purchases.accepted_per_second())
        .with(Figure::SettledPerSecond, lag.settled_per_second())
        .with(Figure::RefusedPerSecond, purchases.refused_per_second())
        .with(Figure::AnsweredPerSecond, payments.shown_per_second())
        .with(Figure::PaymentsRefused, refused)
        .with(Figure::P50Ms, payments.show_times.ms(0.5))
        .with(Figure::P99Ms, payments.show_times.ms(0.99))
        .with(Figure::SettledP50Ms, lag.p50_ms)
        .with(Figure::SettledP99Ms, lag.p99_ms))
}

/// Checks that everybody had an answer, and that purchases were refused for want of room and for nothing else.
fn check_stampede(purchases: &[&Report], payments: &Report) -> anyhow::Result<()> {
    let mut codes = BTreeSet::new();
    for report in purchases {
        all_answered(report)?;
        codes.extend(report.refused_by_code().into_keys());
    }
    all_answered(payments)?;
    ensure!(!codes.is_empty(), "there was no stampede: all were served");
    ensure!(
        codes.iter().all(|code| code == "overloaded"),
        "purchases were refused for other reasons, too: {codes:?}"
    );
    Ok(())
}

/// Purchases by as many as the lane has room for: what is settled when nobody is refused.
async fn within_bounds(bench: &Bench, ingest: &Process) -> anyhow::Result<Report> {
    let report = Load::of(Basket::one(HOT, 1), &[ingest.address()?])
        .connections(BUYERS_WITHIN_BOUNDS)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    ensure!(
        report.refusals() == 0,
        "purchases were refused before the stampede: {:?}",
        report.refused_by_code()
    );
    Ok(report)
}

async fn paid_per_second(shop: &Shop, report: &Report) -> anyhow::Result<f64> {
    let Window { from, to } = report.window.context("a load without a measured part")?;
    let mut database = shop.database().await?;
    let paid = sqlx::query_scalar(PAID).bind(from).bind(to);
    let per_second = paid.fetch_one(&mut database).await?;
    database.close().await?;
    Ok(per_second)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some thousands"
)]
fn count(orders: f64) -> u64 {
    orders.ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}
