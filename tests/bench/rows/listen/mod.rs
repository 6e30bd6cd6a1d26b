//! Pages that listen: how soon thousands of them hear of a change, what each costs, and what those who buy
//! meanwhile notice of them.

mod pages;

use std::time::Duration;

use anyhow::ensure;
use hotrow_tests::{
    Client, Process,
    load::{Report, Times},
    meter,
};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

pub(crate) use self::pages::PagesArguments;
use self::pages::{Last, Pages, Start};
use super::{Bench, Conditions, sale::Sale};
use crate::{
    goods::{Goods, LISTENED_TO},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
};

/// Purchases beside those who listen, in an open loop: far below what the machine can do, so that what is measured is
/// what they notice and not what is left.
const BUYERS: usize = 256;
const PURCHASES_PER_SECOND: f64 = 2_000.0;
const MEASURED_MIN: Duration = Duration::from_secs(4);
/// One product changes at a time, four times a second altogether.
const CHANGE_EVERY: Duration = Duration::from_millis(250);

/// One round: purchases alone, then with pages that listen at two ingest processes while the stock changes.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let conditions = bench.conditions;
    let shop = Shop::open(Distance::Near, &Goods::listened_to()).await?;
    let (ingest, worker) = (shop.ingest(), shop.worker());
    let (here, there, worker) = tokio::try_join!(ingest.start(), ingest.start(), worker.start())?;
    let doors = [&here, &there];
    let alone = buy(conditions, &here).await?;
    settled(&worker, alone.accepted.len()).await?;
    let memory = memory(doors)?;
    let start = Start::now()?;
    let each = conditions.listeners / doors.len();
    let at_door = async |door: &Process| Pages::open(door.address()?, each, start).await;
    let pages = tokio::try_join!(at_door(&here), at_door(&there))?;
    let kib = kib_each(memory, self::memory(doors)?, conditions.listeners);

    let client = here.client()?;
    let over = CancellationToken::new();
    let purchases = async {
        let _over = over.clone().drop_guard();
        buy(conditions, &here).await
    };
    let changes = change_until(&over, &client, start);
    let (beside, last) = tokio::try_join!(purchases, changes)?;
    let (first, second) = tokio::try_join!(pages.0.end(last), pages.1.end(last))?;
    let mut told = Times::new()?;
    for (ms, times) in first
        .into_iter()
        .enumerate()
        .chain(second.into_iter().enumerate())
    {
        told.record_often(Duration::from_millis(u64::try_from(ms)?), times);
    }
    settled(&worker, alone.accepted.len() + beside.accepted.len()).await?;
    shop.check(&alone, alone.accepted.len()).await?;
    shop.check(&beside, beside.accepted.len()).await?;
    drop((here, there, worker));
    shop.close().await?;
    let p99 = |report: &Report| report.accept_times.ms(0.99);
    Ok(Round::default()
        .with(Figure::AcceptedPerSecond, beside.accepted_per_second())
        .with(Figure::P50Ms, beside.accept_times.ms(0.5))
        .with(Figure::P99Ms, p99(&beside))
        .with(Figure::ToldP50Ms, told.ms(0.5))
        .with(Figure::ToldP99Ms, told.ms(0.99))
        .with(Figure::ListenerKib, kib)
        .with(
            Figure::RateKept,
            beside.accepted_per_second() / alone.accepted_per_second(),
        )
        .with(Figure::P99Grown, p99(&beside) / p99(&alone)))
}

async fn buy(conditions: Conditions, door: &Process) -> anyhow::Result<Report> {
    let measured = conditions.measured.max(MEASURED_MIN);
    let load = Sale::hot(BUYERS).load(door.address()?)?;
    let report = load
        .lasting(conditions.warm_up, measured)
        .per_second(PURCHASES_PER_SECOND)
        .run()
        .await?;
    ensure!(
        report.refusals() == 0,
        "orders were refused: {:?}",
        report.refused_by_code()
    );
    Ok(report)
}

fn memory(doors: [&Process; 2]) -> anyhow::Result<u64> {
    let [here, there] = doors.map(|door| meter::memory(door.id()));
    Ok(here? + there?)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn kib_each(before: u64, after: u64, listeners: usize) -> f64 {
    after.saturating_sub(before) as f64 / 1_024.0 / listeners as f64
}

/// Changes one product after the other. A change that was asked for is made before it ends. Returns the last ones.
async fn change_until(
    over: &CancellationToken,
    client: &Client,
    start: Start,
) -> anyhow::Result<Last> {
    let mut ticks = interval(CHANGE_EVERY);
    let mut last = Last::default();
    for product in (0..LISTENED_TO.len()).cycle() {
        if over.run_until_cancelled(ticks.tick()).await.is_none() {
            break;
        }
        let now = start.elapsed()?;
        let more = i64::from(now - last[product]);
        let sku = LISTENED_TO[product];
        client.restock(sku, more, None).await?.expect(200)?;
        last[product] = now;
    }
    Ok(last)
}
