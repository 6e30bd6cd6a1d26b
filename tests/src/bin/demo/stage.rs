//! Everything that the demo runs: two servers, two ingest processes, two workers, one product.

use std::{net::SocketAddr, time::Instant};

use hotrow_tests::{
    Place, Process, Settings,
    client::Product,
    metrics::Metrics,
    processes::{self, ADMIN_TOKEN},
};
use sqlx::PgConnection;
use uuid::Uuid;

/// What is for sale.
pub(crate) const SKU: &str = "chair-123";

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
        let done = |what: &str| eprintln!("{:>6.1} s  {what}", started.elapsed().as_secs_f64());
        let (place, ()) = tokio::try_join!(Place::new(), processes::build())?;
        done("Hotrow is built, PostgreSQL and RabbitMQ are up");
        processes::migrate(&place).await?;
        done("the schema is up to date");

        let ingest = Settings::ingest(&place).unlimited();
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
        done("2 ingest processes and 2 workers are ready");

        let admin = stage.ingests[0].client()?;
        admin
            .put_inventory(SKU, Product::chairs(stock.into()))
            .await?
            .expect_success()?;
        done("the sale is open");
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

    /// Addresses and commands for a person who wants to look around.
    pub(crate) fn what_to_try(&self, order: Option<Uuid>) -> anyhow::Result<String> {
        let [one, two] = [self.ingests[0].address()?, self.ingests[1].address()?];
        let metrics: Vec<_> = self
            .ingests
            .iter()
            .chain(&self.workers)
            .map(Process::metrics_url)
            .collect::<anyhow::Result<_>>()?;
        let order = order.map_or_else(|| "<order_id>".to_owned(), |order| order.to_string());
        Ok(format!(
            "
Everything keeps running until Ctrl-C.

  orders    http://{one}  http://{two}
  metrics   {metrics}
  database  psql {database}
  broker    {broker}

To try:

  # order a chair, at one of the two
  curl -i http://{one}/v1/orders -H 'content-type: application/json' \\
       -d '{{\"customer_id\":\"me\",\"items\":[{{\"sku\":\"{SKU}\",\"quantity\":1}}]}}'
  # what became of an order, at the other
  curl http://{two}/v1/orders/{order}
  # what is left
  curl http://{one}/v1/inventory/{SKU}
  # 100 more
  curl http://{two}/v1/inventory/{SKU}/restock -H 'authorization: Bearer {ADMIN_TOKEN}' \\
       -H 'content-type: application/json' -d '{{\"quantity\":100}}'
",
            metrics = metrics.join("\n            "),
            database = self.place.database_url,
            broker = self.place.amqp_url,
        ))
    }
}
