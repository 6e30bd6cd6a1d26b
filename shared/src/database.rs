//! The connection to PostgreSQL and the version of the schema that this release needs.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

/// The schema, in numbered steps with their reasons.
pub static MIGRATIONS: Migrator = {
    let mut migrations = sqlx::migrate!("../migrations");
    // During an upgrade the schema is newer than some of the processes.
    migrations.ignore_missing = true;
    migrations
};

/// How long a caller waits for a connection before the database counts as out of reach.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// A connection that was used this lately needs no ping.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// How long a ping may take.
const PING_MAX: Duration = Duration::from_secs(1);

/// Session settings of every connection.
///
/// All statements but the audit's are key look-ups, and their plans are kept. A plan that was
/// made while today's partition was still empty would read it from end to end for ever after, so
/// sequential scans are the last resort, and the same plan for every set of parameters is fine.
/// The audit takes one core at most, and leaves the others to the sale.
/// A statement that waits for a lock or an answer gives up and is tried again, instead of holding
/// a hot row; a peer that vanished frees its locks within seconds.
const SESSION: [(&str, &str); 9] = [
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];

/// Why a process does not start on this database.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations of this release have not been applied.
    #[error(
        "the schema of the database is at version {found}, this release needs {needed}: run `hotrow-worker migrate` first"
    )]
    Older {
        /// The newest applied migration, 0 for an empty database.
        found: i64,
        /// The newest migration of this release.
        needed: i64,
    },
    /// The database does not answer.
    #[error("cannot read the schema version of the database")]
    Unreadable(#[from] sqlx::Error),
    /// The database takes the connection and says nothing.
    #[error("the database does not answer within {ACQUIRE_MAX:?}")]
    Silent,
}

/// The session settings of a connection, which `pg_stat_activity` shows under `name`.
#[must_use]
pub fn options(options: &PgConnectOptions, name: &str) -> PgConnectOptions {
    options.clone().application_name(name).options(SESSION)
}

/// A pool of at most `connections`, none of which is opened yet.
#[must_use]
pub fn pool(connect: &PgConnectOptions, connections: u32, name: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_MAX)
        // A ping before each use would double the round trips. One that was idle is asked, so that after
        // a fail-over the dead ones are found out at once and not one batch at a time.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                let answers = meta.idle_for < IDLE_TRUSTED
                    || timeout(PING_MAX, connection.ping())
                        .await
                        .is_ok_and(|pong| pong.is_ok());
                Ok(answers)
            })
        })
        .connect_lazy_with(options(connect, name))
}

/// Makes sure that the schema is at least as new as this release.
///
/// On a connection of its own and not of a pool, which would only say that it waited in vain.
///
/// # Errors
/// It is older, or the database is out of reach.
pub async fn require_schema(connect: &PgConnectOptions) -> Result<(), SchemaError> {
    let needed = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    let Ok(connection) = timeout(ACQUIRE_MAX, connect.connect()).await else {
        return Err(SchemaError::Silent);
    };
    let mut connection = connection?;
    let exists =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&mut connection)
            .await?;
    let found = if exists {
        sqlx::query_scalar!(
            r#"select coalesce(max(version), 0) as "version!" from _sqlx_migrations where success"#
        )
        .fetch_one(&mut connection)
        .await?
    } else {
        0
    };
    connection.close().await?;
    if found < needed {
        Err(SchemaError::Older { found, needed })
    } else {
        Ok(())
    }
}
