//! The connection to PostgreSQL and the version of the schema that this release needs.

use std::{io, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{addresses::DATABASE_CA, tls};

/// The schema, in numbered steps with their reasons.
pub static MIGRATIONS: Migrator = {
    let mut migrations = sqlx::migrate!("../migrations");
    // During an upgrade the schema is newer than some of the processes.
    migrations.ignore_missing = true;
    migrations
};

/// How long work that must be done waits for a connection before the database counts as out of reach. Whoever
/// has a client that waits gives less to [`pool`].
pub const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// The setting that says where the database is.
pub const DATABASE_URL: &str = "DATABASE_URL";

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
/// a hot row; a peer that vanished frees its locks within seconds, also while the server writes to it. That
/// is the server's side. sqlx has no keepalives for ours, so whoever asks the database bounds its wait:
/// a host that vanished is noticed by a time-out, and its connections are not used again.
const SESSION: [(&str, &str); 10] = [
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "11s"),
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
    /// The database cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// The database cannot be used, for a reason that a person can do something about.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address}: {why}")]
pub struct Unusable {
    /// The setting that says where it is.
    setting: &'static str,
    /// Host and port, or the socket.
    address: String,
    /// What is wrong, and what to do.
    why: String,
}

/// The session settings of a connection, which `pg_stat_activity` shows under `name`.
#[must_use]
pub fn options(options: &PgConnectOptions, name: &str) -> PgConnectOptions {
    options.clone().application_name(name).options(SESSION)
}

/// A pool of at most `connections`, none of which is opened yet. `name` is what `pg_stat_activity` shows;
/// a caller waits for `acquire_max` at most.
#[must_use]
pub fn pool(
    connect: &PgConnectOptions,
    connections: u32,
    name: &str,
    acquire_max: Duration,
) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire_max)
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
        // sqlx pings a connection that comes back, without a time limit: on a host that vanished the place
        // in the pool would be taken until TCP gives up.
        .after_release(|connection, _| {
            Box::pin(async move {
                match timeout(PING_MAX, connection.ping()).await {
                    Ok(pong) => pong.map(|()| true),
                    // An error closes the connection without a good-bye.
                    Err(_) => Err(sqlx::Error::PoolTimedOut),
                }
            })
        })
        .connect_lazy_with(options(connect, name))
}

/// Makes sure that the schema is at least as new as this release.
///
/// # Errors
/// It is older, or the database cannot be used.
pub async fn require_schema(connect: &PgConnectOptions) -> Result<(), SchemaError> {
    let needed = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    let found = asked(connect, DATABASE_URL, schema_version).await?;
    if found < needed {
        Err(SchemaError::Older { found, needed })
    } else {
        Ok(())
    }
}

/// Makes sure that the database can be connected to. `setting` says where it is, for the message.
///
/// On a connection of its own and not of a pool, which would only say that it waited in vain.
///
/// # Errors
/// It cannot.
pub async fn reach(connect: &PgConnectOptions, setting: &'static str) -> Result<(), Unusable> {
    asked(connect, setting, async |_| Ok(())).await
}

async fn schema_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let exists =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        return Ok(0);
    }
    sqlx::query_scalar!(
        r#"select coalesce(max(version), 0) as "version!" from _sqlx_migrations where success"#
    )
    .fetch_one(connection)
    .await
}

/// Asks one question on a connection of its own. `setting` says where the database is, for the message.
///
/// # Errors
/// There is no answer, or not within [`ACQUIRE_MAX`].
pub(crate) async fn asked<T>(
    connect: &PgConnectOptions,
    setting: &'static str,
    question: impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, Unusable> {
    let asking = async {
        let mut connection = options(connect, "hotrow start").connect().await?;
        let answer = question(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    let why = match timeout(ACQUIRE_MAX, asking).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => reason(&error, connect),
        Err(_) => format!("no answer within {ACQUIRE_MAX:?}"),
    };
    let address = connect.get_socket().map_or_else(
        || format!("{}:{}", connect.get_host(), connect.get_port()),
        |socket| socket.display().to_string(),
    );
    Err(Unusable {
        setting,
        address,
        why,
    })
}

/// Why the database cannot be used, and what a person can do about it.
fn reason(error: &sqlx::Error, connect: &PgConnectOptions) -> String {
    let user = connect.get_username();
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "connection refused: is PostgreSQL running there, and is the port right?".into()
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                "it closed the connection: is that the port of PostgreSQL?".into()
            }
            io::ErrorKind::NotFound => "there is no such socket: is PostgreSQL running?".into(),
            // What the resolver says differs between systems.
            _ if error.to_string().contains("lookup") => {
                "the name of the host cannot be resolved".into()
            }
            _ => {
                let told = error.to_string();
                tls::reason(&told, connect.get_host(), DATABASE_CA[0]).unwrap_or(told)
            }
        },
        sqlx::Error::Tls(error) => {
            let told = error.to_string();
            if told.contains("server does not support TLS") {
                return "it does not offer TLS, and sslmode in the URL asks for it".into();
            }
            tls::reason(&told, connect.get_host(), DATABASE_CA[0])
                .unwrap_or_else(|| format!("TLS: {told}"))
        }
        sqlx::Error::Protocol(_) => "what answers there does not speak PostgreSQL's protocol".into(),
        sqlx::Error::Database(told) => match told.code().as_deref() {
            Some("28P01" | "28000") => format!(
                "it refuses the user {user:?} or the password ({}); special characters in a password are percent-encoded",
                told.message()
            ),
            Some("3D000") => format!(
                "there is no database {:?}: create it, or correct the name at the end of the URL",
                connect.get_database().unwrap_or(user)
            ),
            Some("53300") => {
                "it has no connection left: raise its max_connections, or lower DATABASE_CONNECTIONS".into()
            }
            _ => told.message().to_owned(),
        },
        _ => error.to_string(),
    }
}
