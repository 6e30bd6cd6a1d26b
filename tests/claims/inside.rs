//! An ingest process within the test, which sets its clock.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use clap::Parser;
use hotrow_ingest::{
    NEEDS,
    clock::Clock,
    settings::{Cli, Settings},
};
use hotrow_shared::{settings::Secrets, telemetry::Readiness};
use hotrow_tests::{Client, Place, processes, wait};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A start on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// An ingest process; it drains when it is dropped.
pub struct Inside {
    /// A client of it, with the admin token.
    pub client: Client,
    _stop: DropGuard,
}

/// Starts an ingest process at a place, which finds the broker at that URL. Its clock stands where it is put, in
/// milliseconds since 1970.
pub async fn ingest(
    place: &Place,
    partitions: u16,
    amqp_url: &str,
    clock: &Arc<AtomicU64>,
) -> anyhow::Result<Inside> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = Client::new(listener.local_addr()?)?.admin(processes::ADMIN_TOKEN);
    let (settings, stop) = (
        settings(place, partitions, amqp_url)?,
        CancellationToken::new(),
    );
    let (clock, token) = (Clock::Set(Arc::clone(clock)), stop.clone());
    let readiness = Readiness::of(&NEEDS);
    tokio::spawn(async move {
        if let Err(error) = hotrow_ingest::run(settings, listener, clock, &readiness, token).await {
            eprintln!("the ingest process ended: {error:#}");
        }
    });
    wait::until("an ingest process to be ready", READY_WITHIN, async || {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    Ok(Inside {
        client,
        _stop: stop.drop_guard(),
    })
}

fn settings(place: &Place, partitions: u16, amqp_url: &str) -> anyhow::Result<Settings> {
    let partitions = partitions.to_string();
    let secrets = Secrets::of([
        ("DATABASE_URL", &*place.database_url),
        ("AMQP_URL", amqp_url),
        ("ORDER_ID_SECRET", processes::ORDER_ID_SECRET),
        ("ADMIN_TOKEN", processes::ADMIN_TOKEN),
    ]);
    let flags = [
        ("--partitions", &*partitions),
        ("--rate-limit-ip", "off"),
        ("--rate-limit-customer", "off"),
        ("--rate-limit-reads", "off"),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag, value]);
    Ok(Cli::try_parse_from(["hotrow-ingest"].into_iter().chain(flags))?.check(secrets)?)
}
