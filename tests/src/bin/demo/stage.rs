//! Everything that the demo runs: two servers, two ingest processes, two workers, one product.

use std::{net::SocketAddr, time::Instant};

use hotrow_tests::{
    Place, Process, Settings,
    client::Product,
    metrics::Metrics,
    processes::{self, ADMIN_TOKEN},
};
use sqlx::PgConnection;

/// What the crowd wants.
pub(crate) const SKU: &str = "chair-123";
/// What nobody in the crowd wants, so that a person who looks around can buy it.
const SPARE_SKU: &str = "table-7";
const SPARE_STOCK: i64 = 100;

/// Dropped, everything ends.
pub(crate) struct Stage {
    // Processes before the servers that they need: fields are dropped in this order.
    ingests: [Process; 2],
    workers: [Process; 2],
    place: Place,
}

impl Stage {
    /// Starts everything and puts `stock` units up for sale.
    pub(crate) async fn set(stock: u32) -> anyhow::Result<Self> {
        let started = Instant::now();
        let say = |what: &str| eprintln!("{:>6.1} s  {what}", started.elapsed().as_secs_f64());
        say("starting PostgreSQL and RabbitMQ, and building Hotrow");
        let (place, ()) = tokio::try_join!(Place::new(), processes::build())?;
        say("creating the tables");
        processes::migrate(&place).await?;
        say("starting 2 ingest processes and 2 workers");

        // Pages of any origin may call, as from a front end that somebody tries out here.
        let ingest = Settings::ingest(&place)
            .unlimited()
            .set("CORS_ORIGINS", "*");
        let worker = Settings::worker(&place);
        let (i1, i2, w1, w2) = tokio::try_join!(
            ingest.start(),
            ingest.start(),
            worker.start(),
            worker.start()
        )?;
        let stage = Self {
            ingests: [i1, i2],
            workers: [w1, w2],
            place,
        };
        let admin = stage.ingests[0].client()?;
        for (sku, stock) in [(SKU, stock.into()), (SPARE_SKU, SPARE_STOCK)] {
            admin
                .put_inventory(sku, Product::chairs(stock))
                .await?
                .expect_success()?;
        }
        say("the sale is open");
        Ok(stage)
    }

    /// Where orders are taken.
    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        self.ingests.iter().map(Process::address).collect()
    }

    /// The metrics of both workers in one.
    pub(crate) async fn worker_metrics(&self) -> anyhow::Result<Metrics> {
        let [first, second] = &self.workers;
        let (first, second) = tokio::try_join!(first.metrics(), second.metrics())?;
        Ok(first.and(second))
    }

    /// A connection to the database.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        self.place.database().await
    }

    /// Addresses and commands for a person who wants to look around. The commands work one after the other.
    pub(crate) fn what_to_try(&self) -> anyhow::Result<String> {
        let [one, two] = [self.ingests[0].address()?, self.ingests[1].address()?];
        let metrics: Vec<_> = self
            .ingests
            .iter()
            .chain(&self.workers)
            .map(Process::metrics_url)
            .collect::<anyhow::Result<_>>()?;
        Ok(format!(
            "
Everything keeps running until Ctrl-C.

  orders    http://{one}  http://{two}
  metrics   {metrics}
  database  psql {database}
  broker    {broker}

To try:

  # order a table under a key: the same line again is the same order
  curl -i http://{one}/v1/orders -H 'content-type: application/json' -H 'idempotency-key: my-table' \\
       -d '{{\"customer_id\":\"me\",\"items\":[{{\"sku\":\"{SPARE_SKU}\",\"quantity\":1}}]}}'
  # order one under another key, and wait at the other process for what becomes of it
  order=$(curl -s http://{one}/v1/orders -H 'content-type: application/json' -H 'idempotency-key: another' \\
       -d '{{\"customer_id\":\"me\",\"items\":[{{\"sku\":\"{SPARE_SKU}\",\"quantity\":2}}]}}' | cut -d '\"' -f 4)
  curl -i http://{two}/v1/orders/$order -H 'prefer: wait=5'
  # what is left of the chairs that everybody wanted
  curl http://{one}/v1/inventory/{SKU}
  # 100 more of them
  curl http://{two}/v1/inventory/{SKU}/restock -H 'authorization: Bearer {ADMIN_TOKEN}' \\
       -H 'content-type: application/json' -d '{{\"quantity\":100}}'
",
            metrics = metrics.join("\n            "),
            database = self.place.database_url,
            broker = self.place.amqp_url,
        ))
    }
}
