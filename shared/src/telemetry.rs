//! What a process says about itself: the log on standard error, and a listener of its own for
//! Prometheus and for probes.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{
    Json, Router,
    http::{StatusCode, header},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use utoipa::ToSchema;

use crate::{log, metrics::LOG_LINES_LOST, panics};

/// How often recorded samples are folded into their histograms, so that they do not pile up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Coloured lines.
    Pretty,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err("must be json or pretty"),
        }
    }
}

/// Starts the log.
///
/// # Errors
/// `RUST_LOG` cannot be read, or a log was started before.
pub fn start_log(format: LogFormat) -> anyhow::Result<()> {
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    // The AMQP library logs every failure that it also returns; we log those where they are handled.
    let filter =
        EnvFilter::try_new(format!("lapin=off,{directives}")).context("RUST_LOG cannot be read")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would tell of a line that cannot be written with `eprintln!`, which panics then, too.
        .log_internal_errors(false)
        .with_writer(|| log::Lines);
    match format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Pretty => log.try_init(),
    }
    .map_err(|error| anyhow::anyhow!(error))?;
    std::panic::set_hook(Box::new(log_panic));
    panics::abort_the_process();
    Ok(())
}

/// The usual hook writes to standard error itself, and would wait for a pipe that nobody reads.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(%panic, %backtrace, "a task panicked");
    // The process ends here: see `panics`.
    log::flush();
}

/// What a process needs to do its work, and whether it has it.
pub struct Readiness(Vec<Need>);

struct Need {
    name: &'static str,
    met: AtomicBool,
}

impl Readiness {
    /// Needs that are not met yet.
    #[must_use]
    pub fn of(needs: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(
            needs
                .iter()
                .map(|&name| Need {
                    name,
                    met: AtomicBool::new(false),
                })
                .collect(),
        ))
    }

    /// Notes whether a need is met.
    pub fn set(&self, name: &str, met: bool) {
        if let Some(need) = self.0.iter().find(|need| need.name == name) {
            need.met.store(met, Ordering::Relaxed);
        }
    }

    /// The answer of `GET /readyz`: 200, or 503 with what is missing.
    pub fn answer(&self) -> (StatusCode, Json<Fitness>) {
        let missing: Vec<_> = self
            .0
            .iter()
            .filter(|need| !need.met.load(Ordering::Relaxed))
            .map(|need| need.name)
            .collect();
        let (status, missing) = if missing.is_empty() {
            (StatusCode::OK, None)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, Some(missing))
        };
        let word = if missing.is_none() {
            Ready::Ready
        } else {
            Ready::Unready
        };
        let fitness = Fitness {
            status: word,
            missing,
        };
        (status, Json(fitness))
    }
}

/// The answer of `GET /livez`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Liveness {
    #[schema(inline)]
    status: Live,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Live {
    Live,
}

/// The answer of `GET /readyz`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fitness {
    #[schema(inline)]
    status: Ready,
    /// The needs that are not met; only there if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    missing: Option<Vec<&'static str>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Ready {
    Ready,
    Unready,
}

/// The answer of `GET /livez`, which every process that serves at all gives.
pub fn live() -> Json<Liveness> {
    Json(Liveness { status: Live::Live })
}

/// `GET /livez` and `GET /readyz`.
pub fn probes<S: Clone + Send + Sync + 'static>(readiness: &Arc<Readiness>) -> Router<S> {
    let readiness = Arc::clone(readiness);
    Router::new()
        .route("/livez", get(async || live()))
        .route("/readyz", get(async move || readiness.answer()))
}

/// Serves `/metrics` and the probes for as long as the process lives, so that a drain can be watched,
/// and keeps the histograms folded.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<PrometheusHandle>,
    readiness: &Arc<Readiness>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("METRICS_ADDR: cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics listening");
    let rendered = Arc::clone(&metrics);
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let lines_lost = LOG_LINES_LOST.counter(&[]);
    lines_lost.absolute(log::lost());
    let page = move || async move {
        lines_lost.absolute(log::lost());
        (content_type, rendered.render())
    };
    let router = probes(readiness).route("/metrics", get(page));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            metrics.run_upkeep();
        }
    });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics listener ended");
        }
    });
    Ok(())
}
