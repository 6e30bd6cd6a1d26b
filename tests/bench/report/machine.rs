//! The machine: where the figures come from, and what its servers promise.

use std::{fmt, fs, thread, time::Duration};

use chrono::Utc;
use hotrow_tests::servers::{RabbitMq, Servers};
use procfs::{CpuInfo, Current, Meminfo};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

const UNKNOWN: &str = "unknown";

/// All of it as the systems say it of themselves.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor's model.
    pub(crate) cpu: String,
    /// Logical cores that this process may use.
    pub(crate) cores: usize,
    /// In units of 2^30 bytes.
    pub(crate) memory_gib: f64,
    /// Linux's release.
    pub(crate) kernel: String,
    /// PostgreSQL's version.
    pub(crate) postgresql: String,
    /// PostgreSQL's setting: whether a commit waits until the disk has it.
    pub(crate) fsync: String,
    /// PostgreSQL's setting, as a session finds it.
    pub(crate) synchronous_commit: String,
    /// RabbitMQ's version.
    pub(crate) rabbitmq: String,
    /// Hotrow's version.
    pub(crate) hotrow: &'static str,
    /// The day of the run, in UTC.
    pub(crate) date: String,
}

impl Machine {
    /// Looks at this machine and at the servers.
    pub(crate) async fn look(servers: &Servers) -> anyhow::Result<Self> {
        let [postgresql, fsync, synchronous_commit] = postgresql(servers.postgres.url()).await?;
        Ok(Self {
            cpu: cpu(&CpuInfo::current()?),
            cores: thread::available_parallelism()?.get(),
            memory_gib: gib(Meminfo::current()?.mem_total),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            postgresql,
            fsync,
            synchronous_commit,
            // Only for the report: a broker with an unknown management API is measured all the same.
            rabbitmq: rabbitmq(&servers.rabbitmq)
                .await
                .unwrap_or_else(|_| UNKNOWN.to_owned()),
            hotrow: env!("CARGO_PKG_VERSION"),
            date: Utc::now().date_naive().to_string(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            memory_gib,
            kernel,
            postgresql,
            fsync,
            synchronous_commit,
            rabbitmq,
            hotrow,
            date,
        } = self;
        write!(
            formatter,
            "Hotrow {hotrow} on {date}: {cpu}, {cores} cores, {memory_gib:.0} GiB, Linux {kernel}; \
             PostgreSQL {postgresql} (fsync {fsync}, synchronous_commit {synchronous_commit}), \
             RabbitMQ {rabbitmq}"
        )
    }
}

/// Not every architecture's `/proc/cpuinfo` has a name.
fn cpu(info: &CpuInfo) -> String {
    info.model_name(0).unwrap_or(UNKNOWN).to_owned()
}

fn gib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 pages")]
    let gib = bytes as f64 / f64::from(1 << 30);
    gib
}

async fn postgresql(url: &str) -> anyhow::Result<[String; 3]> {
    const LOOK: &str = "
        select split_part(current_setting('server_version'), ' ', 1),
               current_setting('fsync'),
               current_setting('synchronous_commit')";
    let mut database = PgConnection::connect(url).await?;
    let (version, fsync, synchronous_commit) =
        sqlx::query_as(LOOK).fetch_one(&mut database).await?;
    database.close().await?;
    Ok([version, fsync, synchronous_commit])
}

async fn rabbitmq(broker: &RabbitMq) -> anyhow::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    #[derive(Deserialize)]
    struct Overview {
        rabbitmq_version: String,
    }
    let url = format!(
        "{}/api/overview",
        broker.management_url().trim_end_matches('/')
    );
    let request = Client::new().get(url).timeout(PATIENCE);
    let overview: Overview = request.send().await?.error_for_status()?.json().await?;
    Ok(overview.rabbitmq_version)
}
