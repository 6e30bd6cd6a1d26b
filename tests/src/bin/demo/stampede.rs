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

/// Lets the buyers in, waits for the outcome of what they ordered, and returns what they saw.
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
            _ = refresh.tick() => display.show(view.progress(), Settled::read(stage).await?),
        }
    };
    ensure!(report.answered() > 0, "no order was answered at all");

    let progress = view.progress();
    let mut last_change = Instant::now();
    let mut last_settled = 0;
    while last_settled < progress.accepted && last_change.elapsed() < SILENCE_MAX {
        let settled = Settled::read(stage).await?;
        if settled.orders != last_settled {
            (last_settled, last_change) = (settled.orders, Instant::now());
        }
        display.show(progress, settled);
        refresh.tick().await;
    }
    display.close();
    Ok(report)
}

/// How far the workers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    /// Orders with an outcome.
    pub(crate) orders: u64,
    /// Those of them that got what they asked for.
    pub(crate) confirmed: u64,
    /// Writes of the inventory row that settled them.
    pub(crate) row_writes: u64,
}

impl Settled {
    async fn read(stage: &Stage) -> anyhow::Result<Self> {
        let metrics = stage.worker_metrics().await?;
        let settled = "hotrow_orders_settled_total";
        Ok(Self {
            orders: metrics.count(settled, &[]),
            confirmed: metrics.count(settled, &[("status", "confirmed")]),
            row_writes: metrics.count("hotrow_row_writes_total", &[]),
        })
    }
}
