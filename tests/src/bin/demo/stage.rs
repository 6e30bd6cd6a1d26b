//! Everything that the demo runs: two servers, two ingest processes, two workers, a sender of webhooks, a few products.

use std::{net::SocketAddr, time::Instant};

use hotrow_tests::{
    Client, Place, Process, Settings, Users,
    client::Product,
    metrics::Metrics,
    processes::{self, ADMIN_TOKEN},
    window::Shop,
};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{goods::GRACE, suggestions};

/// Where the demo's own receiver of webhooks is, and whoever stands in front of its doors.
pub(crate) const LOOPBACK: &str = "127.0.0.0/8";

/// Dropped, everything ends.
pub(crate) struct Stage {
    // Processes before the servers that they need: fields are dropped in this order.
    ingests: [Process; 2],
    workers: [Process; 2],
    webhooks: Process,
    users: Users,
    place: Place,
}

impl Stage {
    /// Starts everything; ingest processes with settings that `doors` adds. Nothing is for sale yet.
    pub(crate) async fn set(doors: impl Fn(Settings) -> Settings) -> anyhow::Result<Self> {
        let started = Instant::now();
        let say = |what: &str| eprintln!("{:>6.1} s  {what}", started.elapsed().as_secs_f64());
        say("starting PostgreSQL and RabbitMQ, and building Hotrow");
        let (place, ()) = tokio::try_join!(Place::new(), processes::build())?;
        say("creating the tables");
        let users = users(&place).await?;
        say("starting 2 ingest processes, 2 workers and a process that sends webhooks");

        let ingest = users
            .ingest(Settings::ingest(&place))
            .set("WEBHOOK_ALLOWED_NETWORKS", LOOPBACK);
        let ingest = doors(ingest);
        let webhooks = users
            .worker(Settings::webhooks(&place))
            .set("WEBHOOK_ALLOWED_NETWORKS", LOOPBACK);
        let worker = users
            .worker(Settings::worker(&place))
            .set("HOLD_GRACE", format!("{}s", GRACE.as_secs()))
            .set("REQUIRE_SEALED", "true");
        let (i1, i2, w1, w2, webhooks) = tokio::try_join!(
            ingest.start(),
            ingest.start(),
            worker.start(),
            worker.start(),
            webhooks.start()
        )?;
        let stage = Self {
            ingests: [i1, i2],
            workers: [w1, w2],
            webhooks,
            users,
            place,
        };
        say("everything runs");
        Ok(stage)
    }

    /// Puts a product up for sale, by these rules if it has any.
    pub(crate) async fn put_up(
        &self,
        sku: &str,
        title: &str,
        stock: u64,
        sale: Option<Value>,
    ) -> anyhow::Result<()> {
        let admin = self.ingests[0].client()?;
        let product = Product {
            title,
            ..Product::chairs(i64::try_from(stock)?)
        };
        admin.put_inventory(sku, product).await?.expect_success()?;
        if let Some(sale) = sale {
            let change = json!({ "sale": sale });
            admin.patch_inventory(sku, change).await?.expect_success()?;
        }
        Ok(())
    }

    /// The settings of one more ingest process.
    pub(crate) fn another_ingest(&self) -> Settings {
        self.users.ingest(Settings::ingest(&self.place))
    }

    /// A client with the token of the administrator.
    pub(crate) fn administrator(&self) -> anyhow::Result<Client> {
        self.ingests[0].client()
    }

    /// Clients with the token of the administrator.
    pub(crate) fn administrators(&self) -> anyhow::Result<Vec<Client>> {
        self.ingests.iter().map(Process::client).collect()
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

    /// What the shop window needs to sell `sku`, whose doors know tokens by this secret.
    pub(crate) fn shop(&self, sku: &str, auth_secret: &str) -> anyhow::Result<Shop> {
        let metrics = |processes: &[Process]| {
            let urls = processes.iter().map(Process::metrics_url);
            urls.collect::<anyhow::Result<Vec<_>>>()
        };
        Ok(Shop {
            doors: self.addresses()?,
            door_metrics: metrics(&self.ingests)?,
            worker_metrics: metrics(&self.workers)?,
            database_url: self.place.database_url.clone(),
            admin_token: ADMIN_TOKEN.to_owned(),
            auth_secret: auth_secret.to_owned(),
            sku: sku.to_owned(),
        })
    }

    /// A connection to the database.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        self.place.database().await
    }

    /// Addresses and commands for a person who wants to look around.
    pub(crate) fn what_to_try(&self, window: &str) -> anyhow::Result<String> {
        let [one, two] = [self.ingests[0].address()?, self.ingests[1].address()?];
        let metrics: Vec<_> = self
            .ingests
            .iter()
            .chain(&self.workers)
            .chain([&self.webhooks])
            .map(Process::metrics_url)
            .collect::<anyhow::Result<_>>()?;
        Ok(format!(
            "
Everything keeps running until Ctrl-C.

  window    {window}/
  orders    http://{one}  http://{two}
  metrics   {metrics}
  database  psql {database}
  broker    {broker}

To try, one after the other:
{commands}",
            metrics = metrics.join("\n            "),
            database = self.place.database_url,
            broker = self.place.amqp_url,
            commands = suggestions::commands(one, two),
        ))
    }
}

/// The tables, and a user for each kind of process, as in production. On somebody else's servers there may be no right
/// to make users.
async fn users(place: &Place) -> anyhow::Result<Users> {
    let servers = place.servers();
    match Users::make(place).await {
        Ok(users) => Ok(users),
        Err(error) if servers.postgres.is_ours() && servers.rabbitmq.is_ours() => Err(error),
        Err(error) => {
            eprintln!("one user does everything, because no others can be made: {error:#}");
            processes::migrate(place).await?;
            Ok(Users::one(place))
        }
    }
}
