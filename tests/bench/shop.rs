//! The shop of one round: a database and a virtual host of its own, goods, and Hotrow's processes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hotrow_tests::{
    Mode, Place, Process, Proxy, Settings, lag::Lag, law::Verdict, load::Report, processes,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::goods::Goods;

/// One way; a round trip to a database in another building of the same city takes a millisecond.
const FAR: Duration = Duration::from_micros(500);
/// So long nothing was settled while accepted orders wait: the rest is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// By what settling first made of them.
const SETTLED: &str = "select count(*) from orders where order_id = any($1) and status = $2";
/// By what they are now, which takes a look for changes of each.
const STANDING: &str = "select count(*) from orders_now where order_id = any($1) and status = $2";
/// How often the worker is asked how far it is. Each time costs it a fraction of a millisecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// On this machine.
    Near,
    /// Half a millisecond away, each way.
    Far,
}

/// A place with goods for sale.
pub(crate) struct Shop {
    /// The database and the virtual host.
    pub(crate) place: Place,
    /// The database as the measured processes see it.
    pub(crate) database_url: String,
    /// Makes the way to the database longer, while it lives.
    _wire: Option<Proxy>,
}

impl Shop {
    /// Opens a shop whose tables are Hotrow's, and empty but for the goods.
    pub(crate) async fn open(distance: Distance, goods: &Goods) -> anyhow::Result<Self> {
        let shop = Self::empty(distance).await?;
        processes::migrate(&shop.place).await?;
        goods.put_up(&mut shop.place.database().await?).await?;
        Ok(shop)
    }

    /// A shop without any tables.
    pub(crate) async fn empty(distance: Distance) -> anyhow::Result<Self> {
        let place = Place::new().await?;
        let wire = match distance {
            Distance::Near => None,
            Distance::Far => {
                let wire = Proxy::in_front_of(&place.database_url).await?;
                wire.set(Mode::Delay(FAR)).await?;
                Some(wire)
            }
        };
        let database_url = match &wire {
            Some(wire) => wire.url(&place.database_url)?,
            None => place.database_url.clone(),
        };
        Ok(Self {
            place,
            database_url,
            _wire: wire,
        })
    }

    /// The settings of an ingest process of this shop: the defaults, without rate limits.
    pub(crate) fn ingest(&self) -> Settings {
        self.near_or_far(Settings::ingest(&self.place).unlimited())
    }

    /// The settings of a worker of this shop: the defaults, and nothing is settled without a seal.
    pub(crate) fn worker(&self) -> Settings {
        let worker = Settings::worker(&self.place).set("REQUIRE_SEALED", "true");
        self.near_or_far(worker)
    }

    /// Starts one of each.
    pub(crate) async fn start(&self) -> anyhow::Result<(Process, Process)> {
        let (ingest, worker) = (self.ingest(), self.worker());
        tokio::try_join!(ingest.start(), worker.start())
    }

    fn near_or_far(&self, settings: Settings) -> Settings {
        settings.set("DATABASE_URL", &self.database_url)
    }

    /// A connection to the database that is never far.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        self.place.database().await
    }

    /// Checks the conservation law, with every accepted order in it, and that so many of them are
    /// confirmed.
    pub(crate) async fn check(&self, report: &Report, confirmed: usize) -> anyhow::Result<()> {
        self.check_settled(report, "confirmed", confirmed).await
    }

    /// The same, for orders that were settled as something else.
    pub(crate) async fn check_settled(
        &self,
        report: &Report,
        status: &str,
        count: usize,
    ) -> anyhow::Result<()> {
        all_answered(report)?;
        self.check_law(&report.accepted, SETTLED, &[(status, count)])
            .await
    }

    /// Checks the conservation law, with these orders in it, and that so many of them are what by now.
    pub(crate) async fn check_standing(
        &self,
        orders: &[Uuid],
        expected: &[(&str, usize)],
    ) -> anyhow::Result<()> {
        self.check_law(orders, STANDING, expected).await
    }

    async fn check_law(
        &self,
        orders: &[Uuid],
        count_of: &'static str,
        expected: &[(&str, usize)],
    ) -> anyhow::Result<()> {
        let mut database = self.database().await?;
        let verdict = Verdict::read(&mut database, orders).await?;
        ensure!(verdict.holds(), "the conservation law is broken: {verdict}");
        for (status, count) in expected {
            let found: i64 = sqlx::query_scalar(count_of)
                .bind(orders)
                .bind(status)
                .fetch_one(&mut database)
                .await?;
            ensure!(
                found == i64::try_from(*count)?,
                "{found} orders are {status} instead of {count}"
            );
        }
        Ok(database.close().await?)
    }

    /// Reads how long the orders of the measured part waited to be settled, and how many were.
    pub(crate) async fn lag(&self, report: &Report) -> anyhow::Result<Lag> {
        let window = report.window.context("a load without a measured part")?;
        let mut database = self.database().await?;
        Lag::read_within(&mut database, window).await
    }

    /// Removes everything, so that the next round does not pay for this one.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.place.remove().await
    }
}

/// Checks that no request of a load was left without an answer.
pub(crate) fn all_answered(report: &Report) -> anyhow::Result<()> {
    let unanswered = report.unanswered.len();
    ensure!(unanswered == 0, "{unanswered} requests had no answer");
    Ok(())
}

/// Waits until a worker that was started with this shop has settled so many orders.
pub(crate) async fn settled(worker: &Process, orders: usize) -> anyhow::Result<()> {
    counted(worker, "hotrow_orders_settled_total", &[], orders).await
}

/// Waits until a worker that was started with this shop has settled so many payments of reserved orders.
pub(crate) async fn paid(worker: &Process, payments: usize) -> anyhow::Result<()> {
    let paid = [("kind", "confirm"), ("answer", "changed")];
    counted(worker, "hotrow_order_changes_total", &paid, payments).await
}

async fn counted(
    worker: &Process,
    name: &str,
    labels: &[(&str, &str)],
    expected: usize,
) -> anyhow::Result<()> {
    let expected = expected as u64;
    let mut last_change = Instant::now();
    let mut last_count = 0;
    loop {
        let count = worker.metrics().await?.count(name, labels);
        if count >= expected {
            return Ok(());
        }
        if count != last_count {
            (last_count, last_change) = (count, Instant::now());
        }
        if last_change.elapsed() > SILENCE_MAX {
            bail!("{count} of {expected} accepted commands were settled, and then no more");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
