//! `hotrow-worker`: settings, telemetry, and the work or the command.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use hotrow_shared::{
    database,
    hangup::Hangups,
    metrics, panics,
    settings::{SecretFiles, Secrets},
    shutdown,
    telemetry::{self, Readiness},
};
use hotrow_worker::{
    NEEDS, audit, days, dead_letters, events, roles,
    settings::{Cli, Command, Settings},
    webhooks,
};
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;

/// A batch is allocated by the thread that reads it and freed by another, which the C library's allocator
/// pays for with locks. What it gives: docs/performance.md.
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
    let settings = cli.settings.check(&Secrets::of_environment())?;
    telemetry::start_log(settings.common.log_format)?;
    // None of a worker's secrets can be replaced while it runs.
    hangups.follow(SecretFiles::default());
    match &cli.command {
        None => {
            let work = async |readiness, shutdown| {
                hotrow_worker::run(&settings, &readiness, shutdown).await
            };
            serve(&settings, &NEEDS, work).await
        }
        Some(Command::Migrate { roles }) => migrate(&settings, *roles).await,
        Some(Command::Webhooks) => {
            let deliver =
                async |readiness, shutdown| webhooks::run(&settings, &readiness, shutdown).await;
            serve(&settings, &webhooks::NEEDS, deliver).await
        }
        Some(Command::Audit) => audit::run_once(&settings).await,
        Some(Command::Events { action }) => events::command::run(action, &settings).await,
        Some(Command::DeadLetters { action }) => {
            dead_letters::command::run(action, &settings).await
        }
    }
}

/// Starts what a process that runs until a signal needs beside its work.
async fn serve(
    settings: &Settings,
    needs: &[&'static str],
    work: impl AsyncFnOnce(Arc<Readiness>, CancellationToken) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    settings.common.warn_of_development();
    settings.warn_of_plain_text();
    let shutdown = shutdown::on_signal()?;
    let metrics = metrics::install()?;
    let readiness = Readiness::of(needs);
    telemetry::serve(settings.metrics_addr.0, metrics, &readiness).await?;
    let work = Box::pin(work(readiness, shutdown.clone()));
    shutdown::within(settings.common.shutdown_grace, &shutdown, work).await?;
    tracing::info!("drained");
    Ok(())
}

async fn migrate(settings: &Settings, roles: bool) -> anyhow::Result<()> {
    let pool = database::pool(
        settings.owner(),
        settings.common.database_connections,
        "hotrow-worker migrate",
        database::ACQUIRE_MAX,
    );
    settings.reach_owner().await?;
    database::MIGRATIONS.run(&pool).await?;
    days::make_coming(&pool, settings.retention_days).await?;
    println!("the schema is up to date");
    if roles {
        let warning = roles::grant(&mut *pool.acquire().await?).await?;
        println!("{}", roles::advice(&settings.common));
        if let Some(warning) = warning {
            eprintln!("{warning}");
        }
    }
    Ok(())
}
