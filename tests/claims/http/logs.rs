//! Claims about standard error: whatever becomes of the log, orders are accepted, settled and drained.

use std::{
    io::{PipeReader, PipeWriter, Write, pipe},
    net::SocketAddr,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context;
use hotrow_tests::{
    Client, Place, Settings, client::Product, metrics::Metrics, processes::ADMIN_TOKEN,
    servers::free_port, wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{SOON, assert_accepted, ingest, place, settled, worker};

/// More than any pipe holds.
const FILL_BYTES: usize = 4 * 1024 * 1024;
/// Orders in each claim, each logged in several lines.
const ORDERS: u32 = 50;

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_neither_orders_nor_the_stop() -> anyhow::Result<()> {
    let place = place().await?;
    let (unread, full) = full_pipe()?;
    sells_and_stops(&place, || Ok(full.try_clone()?.into())).await?;
    drop(unread);
    Ok(())
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_ends_no_process() -> anyhow::Result<()> {
    let place = place().await?;
    let (reader, writer) = pipe()?;
    drop(reader);
    let lost = sells_and_stops(&place, || Ok(writer.try_clone()?.into())).await?;
    assert!(lost > 0.0, "lines that cannot be written are counted");
    Ok(())
}

#[tokio::test]
async fn an_error_at_the_start_ends_the_process_when_nobody_reads_it() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (unread, full) = full_pipe()?;
    for settings in [ingest(&place), worker(&place)] {
        // The schema is missing.
        let mut refused = Running::start(&settings, full.try_clone()?.into()).await?;
        assert_eq!(refused.ended().await?, Some(1));
    }
    drop(unread);
    Ok(())
}

/// Runs a small sale by processes with that standard error, stops them, and returns how many lines were lost.
async fn sells_and_stops(
    place: &Place,
    standard_error: impl Fn() -> anyhow::Result<Stdio>,
) -> anyhow::Result<f64> {
    let [listen, ingest_metrics, worker_metrics] = [port()?, port()?, port()?];
    let ingest = ingest(place)
        .set("RUST_LOG", "debug")
        .set("LISTEN_ADDR", listen.to_string())
        .set("METRICS_ADDR", ingest_metrics.to_string());
    let worker = worker(place)
        .set("RUST_LOG", "debug")
        .set("METRICS_ADDR", worker_metrics.to_string());
    let mut ingest = Running::start(&ingest, standard_error()?).await?;
    ready(listen).await?;
    let mut worker = Running::start(&worker, standard_error()?).await?;
    ready(worker_metrics).await?;

    let client = Client::new(listen)?.admin(ADMIN_TOKEN);
    let chairs = Product::chairs(i64::from(ORDERS));
    client
        .put_inventory("chair", chairs)
        .await?
        .expect_success()?;
    for number in 0..ORDERS {
        let customer = format!("c-{number}");
        let order_id = assert_accepted(&client.order(&customer, &[("chair", 1)]).await?);
        assert_eq!(settled(&client, order_id).await?["status"], "confirmed");
    }
    let metrics = Metrics::scrape(&format!("http://{ingest_metrics}/metrics")).await?;
    let lost = metrics.value("hotrow_log_lines_lost_total", &[]);
    for process in [&mut ingest, &mut worker] {
        process.terminate()?;
        assert_eq!(process.ended().await?, Some(0));
    }
    Ok(lost.unwrap_or_default())
}

/// A pipe that takes nothing more, and its reader, which never reads.
fn full_pipe() -> anyhow::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = pipe()?;
    let mut filling = writer.try_clone()?;
    // It blocks in the middle, and ends when the reader is gone.
    thread::spawn(move || filling.write_all(&vec![b'\n'; FILL_BYTES]));
    Ok((reader, writer))
}

fn port() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

async fn ready(address: SocketAddr) -> anyhow::Result<()> {
    let client = Client::new(address)?;
    wait::until("a process to be ready", SOON, async || {
        let answer = client.get("/readyz").await.ok()?;
        answer.status.is_success().then_some(())
    })
    .await
}

/// A process whose standard error is not the harness's to read.
struct Running(Child);

impl Running {
    async fn start(settings: &Settings, standard_error: Stdio) -> anyhow::Result<Self> {
        let mut command = settings.command().await?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(standard_error);
        Ok(Self(command.spawn()?))
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.0.id())?;
        kill(Pid::from_raw(id), Signal::SIGTERM).context("end a process")
    }

    async fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        const ENDED_WITHIN: Duration = Duration::from_secs(20);
        let ended = async || self.0.try_wait().ok().flatten();
        let status = wait::until("a process to end", ENDED_WITHIN, ended).await?;
        Ok(status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
