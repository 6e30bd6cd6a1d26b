//! `hotrow-ingest`: settings, telemetry, and the service.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use hotrow_ingest::{
    NEEDS,
    clock::Clock,
    http::server::{self, descriptors},
    settings::{Cli, Settings},
};
use hotrow_shared::{
    hangup::Hangups,
    metrics, panics,
    settings::Secrets,
    shutdown,
    telemetry::{self, Readiness},
};
use mimalloc::MiMalloc;

/// An order is allocated by the thread that reads its request and freed by the one that publishes it, which
/// the C library's allocator pays for with locks. What it gives: docs/performance.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    panics::abort_the_process();
    shutdown::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let hangups = Hangups::listen()?;
    hotrow_shared::descriptors::raise();
    let settings = cli.check(Secrets::of_environment())?;
    telemetry::start_log(settings.common.log_format)?;
    hangups.follow(settings.secret_files.clone());
    settings.common.warn_of_development();
    settings.common.warn_of_plain_text(&[]);
    descriptors::warn_of_few(settings.connections.max);
    serve(settings).await
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let metrics = metrics::install()?;
    let readiness = Readiness::of(&NEEDS);
    let address = settings.listen_addr.0;
    let listener = server::listen(address)
        .with_context(|| format!("LISTEN_ADDR: cannot listen on {address}"))?;
    telemetry::serve(settings.metrics_addr.0, metrics, &readiness).await?;
    let grace = settings.common.shutdown_grace;
    let service = hotrow_ingest::run(
        settings,
        listener,
        Clock::System,
        &readiness,
        shutdown.clone(),
    );
    shutdown::within(grace, &shutdown, service).await?;
    tracing::info!("drained");
    Ok(())
}
