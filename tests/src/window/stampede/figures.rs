//! How far a stampede is, by the metrics of the processes.

use serde::Serialize;
use tokio::task::JoinSet;

use super::books::Totals;
use crate::{metrics::Metrics, window::Shop};

const SETTLED: &str = "hotrow_orders_settled_total";

/// How far it was at a moment; counts since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Point {
    /// Since it began.
    pub(super) ms: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) settled: u64,
    pub(super) row_writes: u64,
    /// Accepted and not settled.
    pub(super) queued: u64,
    /// What is left of the product.
    pub(super) left: u64,
}

/// What all processes counted since they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) totals: Totals,
}

impl Counted {
    /// # Errors
    /// When a process does not say.
    pub(super) async fn read(shop: &Shop) -> anyhow::Result<Self> {
        let (workers, doors) =
            tokio::try_join!(sum(&shop.worker_metrics), sum(&shop.door_metrics))?;
        let settled = |labels: &[(&str, &str)]| workers.count(SETTLED, labels).cast_signed();
        Ok(Self {
            accepted: doors.count("hotrow_orders_accepted_total", &[]),
            refused: doors.count("hotrow_orders_refused_total", &[]),
            totals: Totals {
                settled: settled(&[]),
                confirmed: settled(&[("status", "confirmed")]),
                limit_reached: settled(&[("reason", "limit_reached")]),
                sold_out: settled(&[("reason", "sold_out")]),
                row_writes: workers.count("hotrow_row_writes_total", &[]).cast_signed(),
            },
        })
    }
}

/// All of them at once: the machine is busy, and a point should be of one moment.
async fn sum(urls: &[String]) -> anyhow::Result<Metrics> {
    let mut scrapes = JoinSet::new();
    for url in urls {
        let url = url.clone();
        scrapes.spawn(async move { Metrics::scrape(&url).await });
    }
    let mut all = Metrics::default();
    while let Some(scrape) = scrapes.join_next().await {
        all = all.and(scrape??);
    }
    Ok(all)
}
