//! The stampede itself: the buyers run, the display follows, and the last order is settled.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hotrow_tests::load::{Basket, Load, Report};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Arguments,
    display::Display,
    stage::{SKU, Stage},
};

const REFRESH: Duration = Duration::from_millis(100);

/// So long nothing was settled while accepted orders wait: the rest is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Lets the buyers in, waits for the outcome of what they ordered, and gives what they saw.
pub(crate) async fn run(
    stage: &Stage,
    arguments: Arguments,
    display: &Display,
) -> anyhow::Result<Report> {
    let load = Load::of(Basket::one(SKU, 1), &stage.addresses()?)
        .orders(arguments.orders)
        .connections(arguments.connections.into());
    let running = load.start()?;
    let view = running.view();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut finish = std::pin::pin!(running.finish());
    let report = loop {
        tokio::select! {
            report = &mut finish => break report?,
            _ = refresh.tick() => display.show(view.progress(), settled(stage).await?),
        }
    };
    ensure!(report.answered() > 0, "no order was answered at all");

    let progress = view.progress();
    let mut last_change = Instant::now();
    let mut last_settled = 0;
    while last_settled < progress.accepted && last_change.elapsed() < SILENCE_MAX {
        let settled = settled(stage).await?;
        if settled != last_settled {
            (last_settled, last_change) = (settled, Instant::now());
        }
        display.show(progress, settled);
        refresh.tick().await;
    }
    display.close();
    Ok(report)
}

/// How many orders the workers have settled.
async fn settled(stage: &Stage) -> anyhow::Result<u64> {
    Ok(stage
        .worker_metrics()
        .await?
        .count("hotrow_orders_settled_total", &[]))
}
