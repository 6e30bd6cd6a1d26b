//! Claims about stopping: what was answered with 202 is in the queue, and who waits hears something.

use std::time::{Duration, Instant};

use hotrow_tests::{
    Load, Process, client::Product, law::Verdict, load::Basket, servers::free_port, wait,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{CHAIR, SOON, assert_accepted, envelopes, ingest, one, place, put_up, worker};

/// The default of `SHUTDOWN_GRACE`.
const GRACE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_process_stopped_under_load_ends_well_and_nothing_accepted_is_lost() -> anyhow::Result<()>
{
    let place = place().await?;
    // The next one listens at the same address, as after a deployment.
    let settings = ingest(&place).set("LISTEN_ADDR", format!("127.0.0.1:{}", free_port()?));
    let mut first = settings.start().await?;
    let product = Product::chairs(1_000_000);
    first
        .client()?
        .put_inventory(CHAIR, product)
        .await?
        .expect(201)?;
    let load = Load::of(Basket::one(CHAIR, 1), &[first.address()?])
        .orders(u64::MAX)
        .connections(32);
    let load = load.start()?;
    let view = load.view();
    let accepted = async |orders| {
        let what = format!("{orders} accepted orders");
        wait::until(&what, SOON, async || {
            (view.progress().accepted >= orders).then_some(())
        })
        .await
    };
    accepted(500).await?;
    first.terminate()?;
    let ended = first.ended(GRACE).await?;
    assert_eq!(ended.code(), Some(0), "{}", first.log_tail());

    assert_eq!(view.progress().refused, 0);

    let second = settings.start().await?;
    accepted(view.progress().accepted + 500).await?;
    load.stop();
    let report = timeout(SOON, load.finish()).await??;

    let _worker = worker(&place).start().await?;
    wait::until("the queues to be empty", SOON, async || {
        (envelopes(&place).await.ok()? == 0).then_some(())
    })
    .await?;
    let mut database = place.database().await?;
    let what = format!("{} orders to be settled", report.accepted.len());
    let settled = wait::until(&what, SOON, async || {
        let verdict = Verdict::read(&mut database, &report.accepted).await.ok()?;
        verdict.holds().then_some(verdict)
    });
    let verdict = settled.await?;
    assert!(verdict.outcomes.confirmed >= i64::try_from(report.accepted.len())?);
    assert!(second.is_ready().await);
    Ok(())
}

#[tokio::test]
async fn who_waits_for_an_outcome_is_answered_when_the_process_stops() -> anyhow::Result<()> {
    let place = place().await?;
    let mut ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let client = ingest.client()?;
    let order_id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let silent = TcpStream::connect(ingest.address()?).await?;
    let mut half = TcpStream::connect(ingest.address()?).await?;
    half.write_all(b"POST /v1/orders HT").await?;
    let waiting = tokio::spawn(async move { client.settled(order_id, 30).await });
    let busy = ingest.client()?;
    // The question has arrived when it was put to the database: another one that came later is answered.
    busy.settled(order_id, 1).await?.expect(200)?;

    ingest.terminate()?;
    let answer = waiting.await??.expect(200)?;
    assert_eq!(answer.json()?["status"], "queued");
    // Clients that are connected and have not asked for anything yet do not hold it up.
    let ended = ingest.ended(GRACE).await?;
    assert_eq!(ended.code(), Some(0), "{}", ingest.log_tail());
    drop((silent, half));
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_finished_by_the_stop_and_cut_by_a_second_signal()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (mut patient, mut hasty) = (settings.start().await?, settings.start().await?);

    let mut buyer = half_a_purchase(&patient).await?;
    stop(&patient).await?;
    buyer.write_all(one(CHAIR).as_bytes()).await?;
    let mut answer = String::new();
    timeout(SOON, buyer.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let ended = patient.ended(GRACE).await?;
    assert_eq!(ended.code(), Some(0), "{}", patient.log_tail());
    assert_eq!(envelopes(&place).await?, 1);

    let _buyer = half_a_purchase(&hasty).await?;
    stop(&hasty).await?;
    let asked = Instant::now();
    hasty.terminate()?;
    let ended = hasty.ended(GRACE).await?;
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "at once: {:?}",
        asked.elapsed()
    );
    assert!(!ended.success(), "what was under way is not done");
    Ok(())
}

/// Sends the head of a purchase, and waits until the process asks for its body.
async fn half_a_purchase(ingest: &Process) -> anyhow::Result<TcpStream> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = TcpStream::connect(ingest.address()?).await?;
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        one(CHAIR).len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; CONTINUE.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await??;
    assert_eq!(answer, CONTINUE);
    Ok(stream)
}

/// Asks a process to stop, and waits until it takes no new connections.
async fn stop(ingest: &Process) -> anyhow::Result<()> {
    let address = ingest.address()?;
    ingest.terminate()?;
    wait::until("the listener to be closed", SOON, async || {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await
}
