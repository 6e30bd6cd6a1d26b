//! The shop of one round: a database and a virtual host of its own, goods, and Hotrow's processes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hotrow_tests::{
    Mode, Place, Process, Proxy, Settings, lag::Lag, law::Verdict, load::Report, processes,
};
use sqlx::{Connection, PgConnection};

use crate::goods::Goods;

/// One way; a round trip to a database in another building of the same city takes a millisecond.
const FAR: Duration = Duration::from_micros(500);
/// So long nothing was settled while accepted orders wait: the rest is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const CONFIRMED: &str =
    "select count(*) from orders where order_id = any($1) and status = 'confirmed'";
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

    /// The settings of a worker of this shop: the defaults.
    pub(crate) fn worker(&self) -> Settings {
        self.near_or_far(Settings::worker(&self.place))
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
        ensure!(
            report.unanswered.is_empty(),
            "{} requests had no answer",
            report.unanswered.len()
        );
        let mut database = self.database().await?;
        let verdict = Verdict::read(&mut database, &report.accepted).await?;
        let found: i64 = sqlx::query_scalar(CONFIRMED)
            .bind(&report.accepted)
            .fetch_one(&mut database)
            .await?;
        database.close().await?;
        ensure!(verdict.holds(), "the conservation law is broken: {verdict}");
        ensure!(
            found == i64::try_from(confirmed)?,
            "{found} orders are confirmed instead of {confirmed}"
        );
        Ok(())
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

/// Waits until a worker that was started with this shop has settled so many orders.
pub(crate) async fn settled(worker: &Process, orders: usize) -> anyhow::Result<()> {
    let orders = orders as u64;
    let mut last_change = Instant::now();
    let mut last_settled = 0;
    loop {
        let settled = worker
            .metrics()
            .await?
            .count("hotrow_orders_settled_total", &[]);
        if settled >= orders {
            return Ok(());
        }
        if settled != last_settled {
            (last_settled, last_change) = (settled, Instant::now());
        }
        if last_change.elapsed() > SILENCE_MAX {
            bail!("{settled} of {orders} accepted orders were settled, and then no more");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
