//! Rivals: what people would build instead of Hotrow, each as one HTTP server in a process of its
//! own, with the same request, the same checks of it, and PostgreSQL as durable as Hotrow's.

mod empty;
mod one_statement;
pub(crate) mod raw;
mod row_lock;
mod store;

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use clap::ValueEnum;
use hotrow_ingest::http::server;
use hotrow_shared::order::{CustomerId, Items};
use hotrow_tests::Process;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::store::{check, open_shop};

/// One design.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Rival {
    /// A transaction per request that locks the row: what most shops run.
    RowLock,
    /// One autocommit statement per request: the best synchronous design.
    OneStatement,
    /// A handler that does nothing: HTTP and JSON alone.
    Empty,
}

impl Rival {
    const fn as_str(self) -> &'static str {
        match self {
            Self::RowLock => "row-lock",
            Self::OneStatement => "one-statement",
            Self::Empty => "empty",
        }
    }

    /// Starts it in a process of its own: this program, told to be the rival.
    pub(crate) async fn start(self, database_url: &str) -> anyhow::Result<Process> {
        const READY_WITHIN: Duration = Duration::from_secs(30);
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["rival", self.as_str()])
            .env("DATABASE_URL", database_url);
        Process::start(self.as_str(), command, READY_WITHIN).await
    }

    /// Serves it until the process is killed.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let router = match self {
            Self::RowLock => row_lock::router(store::pool()?),
            Self::OneStatement => one_statement::router(store::pool()?),
            Self::Empty => empty::router(),
        };
        let router = router.route("/readyz", get(async || StatusCode::OK));
        let listener = server::listen((Ipv4Addr::LOCALHOST, 0).into())?;
        announce(listener.local_addr()?);
        // An answer is one small write; without this the kernel would wait for more.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, router).await?)
    }
}

/// Says where it listens, in the words that the harness looks for.
fn announce(address: SocketAddr) {
    eprintln!(r#"{{"fields":{{"message":"listening","address":"{address}"}}}}"#);
}

/// The request, with Hotrow's own checks of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Purchase {
    customer_id: CustomerId,
    items: Items,
}

/// The answer of a design that settles before it answers.
#[derive(Debug, Serialize)]
struct Receipt {
    order_id: Uuid,
    status: &'static str,
}

impl Receipt {
    fn of(order_id: Uuid, is_confirmed: bool) -> Self {
        let status = if is_confirmed {
            "confirmed"
        } else {
            "rejected"
        };
        Self { order_id, status }
    }
}

/// What goes wrong behind a rival's handler: a refusal, which no round may have.
struct Failure(sqlx::Error);

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}
