//! Whole lives: clients who order, hear that the goods are theirs for a while, pay, and order again.

use std::time::Duration;

use anyhow::ensure;
use hotrow_tests::processes::ADMIN_TOKEN;

use super::{
    Bench,
    sale::{Sale, accepted},
};
use crate::{
    costs::Payers,
    report::figures::{Figure, Round},
    shop::{all_answered, paid},
};

const CLIENTS: usize = 1_000;
/// The longest wait that a client can ask for.
const WAIT: Duration = Duration::from_secs(30);

/// One round. An answer is the end of a life: the order is paid.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let sale = Sale::hot(CLIENTS).held();
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
        .and_pay(ADMIN_TOKEN)
        .lasting(bench.conditions.warm_up, bench.conditions.measured)
        .run()
        .await?;
    let lives = report.accepted.len();
    paid(&worker, lives).await?;
    let round = payers.add(Round::default(), &before, lives)?;
    ensure!(
        report.told.keys().all(|status| status == "confirmed") && report.refusals() == 0,
        "orders were not paid: {:?}, {:?}",
        report.told,
        report.refused
    );
    all_answered(&report)?;
    shop.check_standing(&report.accepted, &[("confirmed", lives)])
        .await?;
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
