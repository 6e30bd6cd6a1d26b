//! The stampede itself: the buyers run, the display follows, and the last order is settled.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hotrow_tests::load::{Basket, Load, Progress, Report};
use indicatif::HumanCount;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Arguments,
    display::{Display, Row},
    goods::SKU,
    stage::Stage,
};

const REFRESH: Duration = Duration::from_millis(100);

/// So long nothing was settled while accepted orders wait: the rest is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Lets the buyers in, waits for the outcome of what they ordered, and returns what they saw.
pub(crate) async fn run(stage: &Stage, arguments: Arguments) -> anyhow::Result<Report> {
    let display = Display::new(["answered", "settled"], arguments.orders);
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
            _ = refresh.tick() => {
                display.show(&rows(arguments.orders, view.progress(), Settled::read(stage).await?));
            }
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
        display.show(&rows(arguments.orders, progress, settled));
        refresh.tick().await;
    }
    display.close();
    Ok(report)
}

/// How far the workers are.
#[derive(Debug, Clone, Copy)]
struct Settled {
    /// Orders with an outcome.
    orders: u64,
    /// Those of them that got what they asked for.
    confirmed: u64,
    /// Writes of the inventory row that settled them.
    row_writes: u64,
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

/// How far the buyers and the workers are.
fn rows(orders: u64, progress: Progress, settled: Settled) -> [Row; 2] {
    let Progress {
        accepted,
        refused,
        unanswered,
    } = progress;
    let answered = Row {
        position: accepted + refused + unanswered,
        of: orders,
        words: format!(
            "{} accepted, {} refused",
            HumanCount(accepted),
            HumanCount(refused)
        ),
    };
    // An order may be settled before its buyer has read that it was accepted.
    let settled_orders = settled.orders.min(accepted);
    let confirmed = settled.confirmed.min(settled_orders);
    let settled = Row {
        position: settled_orders,
        // Only what was accepted can be settled.
        of: accepted,
        words: format!(
            "{} confirmed, {} came too late; {} row writes",
            HumanCount(confirmed),
            HumanCount(settled_orders - confirmed),
            HumanCount(settled.row_writes)
        ),
    };
    [answered, settled]
}
