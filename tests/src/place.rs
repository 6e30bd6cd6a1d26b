//! One test's own corner of the shared servers: a database and a virtual host of its own.

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::servers::{self, Postgres, RabbitMq, Servers};

/// The ends of the names of a place's users: see [`crate::Users`].
pub(crate) const ROLES: [&str; 4] = ["owner", "ingest", "worker", "reader"];

/// An empty database and an empty virtual host that nobody else uses.
///
/// On somebody else's servers both are removed with this value; on our own they go with the servers.
pub struct Place {
    /// The URL of the database.
    pub database_url: String,
    /// The URL of the virtual host.
    pub amqp_url: String,
    name: String,
    servers: Servers,
    is_removed: bool,
}

impl Place {
    /// A place on the servers that all tests of this process share.
    ///
    /// # Errors
    /// When a server cannot be had, or refuses; the message says what to do.
    pub async fn new() -> anyhow::Result<Self> {
        Self::on(servers::shared().await?.clone()).await
    }

    /// A place on the shared PostgreSQL and a broker of the test's own, which it may stop.
    ///
    /// # Errors
    /// See [`Place::new`].
    pub async fn with_rabbitmq(rabbitmq: &RabbitMq) -> anyhow::Result<Self> {
        let postgres = servers::shared().await?.postgres.clone();
        Self::on(Servers {
            postgres,
            rabbitmq: rabbitmq.clone(),
        })
        .await
    }

    /// A place on the shared broker and a PostgreSQL of the test's own, which it may stop.
    ///
    /// # Errors
    /// See [`Place::new`].
    pub async fn with_postgres(postgres: &Postgres) -> anyhow::Result<Self> {
        let rabbitmq = servers::shared().await?.rabbitmq.clone();
        Self::on(Servers {
            postgres: postgres.clone(),
            rabbitmq,
        })
        .await
    }

    /// A place on the given servers.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn on(servers: Servers) -> anyhow::Result<Self> {
        let name = format!("hotrow_{}", Uuid::new_v4().simple());
        let place = Self {
            database_url: servers.postgres.url_of(&name),
            amqp_url: servers.rabbitmq.url_of(&name),
            name,
            servers,
            is_removed: false,
        };
        let Self { name, servers, .. } = &place;
        // Both to their end, so that dropping the place finds whatever was made if one fails.
        let (database, virtual_host) = tokio::join!(
            on_database(&servers.postgres, format!("create database {name}")),
            servers.rabbitmq.create_virtual_host(name),
        );
        database.and(virtual_host)?;
        Ok(place)
    }

    /// A connection to the database.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn database(&self) -> anyhow::Result<PgConnection> {
        PgConnection::connect(&self.database_url)
            .await
            .context("connect to the test's database")
    }

    /// A connection to the virtual host.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn broker(&self) -> anyhow::Result<lapin::Connection> {
        lapin::Connection::connect(&self.amqp_url, lapin::ConnectionProperties::default())
            .await
            .context("connect to the test's virtual host")
    }

    /// The name that database and virtual host share.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes both at once, on our own servers too: what a measurement leaves behind must not cost
    /// the next one anything.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        self.is_removed = true;
        remove_database(&self.servers.postgres, &self.name).await?;
        remove_virtual_host(&self.servers.rabbitmq, &self.name).await
    }

    /// The servers that this place is on.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.servers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Servers { postgres, rabbitmq } = self.servers.clone();
        if self.is_removed || (postgres.is_ours() && rabbitmq.is_ours()) {
            return;
        }
        let name = self.name.clone();
        // The test's runtime may be the one that is being dropped, so the work gets its own.
        let removal = std::thread::spawn(move || -> anyhow::Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    if !postgres.is_ours() {
                        remove_database(&postgres, &name).await?;
                    }
                    if !rabbitmq.is_ours() {
                        remove_virtual_host(&rabbitmq, &name).await?;
                    }
                    Ok(())
                })
        });
        if let Ok(Err(error)) = removal.join() {
            eprintln!("could not remove {}: {error:#}", self.name);
        }
    }
}

async fn remove_database(postgres: &Postgres, name: &str) -> anyhow::Result<()> {
    let statement = format!("drop database if exists {name} with (force)");
    on_database(postgres, statement).await?;
    for role in ROLES {
        on_database(postgres, format!("drop role if exists {name}_{role}")).await?;
    }
    Ok(())
}

async fn remove_virtual_host(rabbitmq: &RabbitMq, name: &str) -> anyhow::Result<()> {
    rabbitmq.delete_virtual_host(name).await?;
    for role in ROLES {
        rabbitmq.delete_user(&format!("{name}_{role}")).await?;
    }
    Ok(())
}

pub(crate) async fn on_database(postgres: &Postgres, statement: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(postgres.url())
        .await
        .context("connect to the server at DATABASE_URL")?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}
