//! Claims about connections: what one may cost, how long a slow one may last, and how many there may be.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hotrow_tests::{Process, client::Product, meter, metrics::Metrics, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{io::AsyncWriteExt, time::sleep};

use super::{
    SOON, ingest, place, put_up,
    raw::{ALIVE, Client},
};

/// How long a head may take, an idle connection may be idle, and an answer may wait to be read.
const HEAD_TIME: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(75);
const READ_TIME: Duration = Duration::from_secs(30);
/// The default of `SHUTDOWN_GRACE`.
const GRACE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn an_unfinished_head_is_kept_up_to_64_kb_and_refused_beyond() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let head = |bytes: usize| {
        let start = "GET /livez HTTP/1.1\r\nhost: x\r\nx-padding: ";
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    let mut legal = Client::connect(&ingest).await?;
    legal.send(&head(60 * 1024)).await?;
    legal.send("\r\n\r\n").await?;
    assert_eq!(legal.answer().await?, 200);

    let mut endless = Client::connect(&ingest).await?;
    endless.send(&head(65 * 1024)).await?;
    assert_eq!(endless.answer().await?, 431);
    assert!(endless.has_ended().await?, "after its refusal");
    Ok(())
}

#[tokio::test]
async fn a_head_has_ten_seconds_from_its_first_byte_and_an_idle_connection_has_more()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let mut silent = Client::connect(&ingest).await?;
    let mut idle = Client::connect(&ingest).await?;
    idle.ask().await?;
    let mut first_head = Client::connect(&ingest).await?;
    let mut second_head = Client::connect(&ingest).await?;
    second_head.ask().await?;
    // Whatever came before, the time of a head begins with its own first byte.
    sleep(HEAD_TIME / 4).await;

    let begun = Instant::now();
    let trickle = async |slow: &mut Client| {
        for byte in ALIVE.as_bytes().chunks(1) {
            slow.stream.write_all(byte).await?;
            if slow.ends_within(HEAD_TIME / 20).await? {
                return Ok(begun.elapsed());
            }
        }
        anyhow::bail!("a head of {} bytes was waited for", ALIVE.len())
    };
    let (first, second) = tokio::try_join!(trickle(&mut first_head), trickle(&mut second_head))?;
    for lasted in [first, second] {
        assert!(
            (HEAD_TIME.mul_f64(0.95)..HEAD_TIME + SOON / 4).contains(&lasted),
            "{lasted:?}"
        );
    }
    silent.ask().await?;
    idle.ask().await?;
    let ended = ended(&ingest.metrics().await?);
    assert_eq!(ended, (2, 0), "slow heads, slow readers");
    Ok(())
}

#[tokio::test]
#[ignore = "takes a minute: 30 s without reading, 75 s without asking"]
async fn a_client_that_does_not_read_is_dropped_and_one_that_reads_slowly_or_asks_late_is_not()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up_many(&ingest, 300).await?;
    let begun = Instant::now();
    let mut silent = Client::connect(&ingest).await?;
    let mut idle = Client::connect(&ingest).await?;
    idle.ask().await?;
    let mut unreading = Client::connect(&ingest).await?;
    let mut slow = Client::connect(&ingest).await?;
    for client in [&mut unreading, &mut slow] {
        client.stop_reading().await?;
    }
    let stalled = Instant::now();
    // Twice the time in which nothing may be read, and something is read now and then.
    while stalled.elapsed() < 2 * READ_TIME {
        slow.read_some(512 * 1024).await?;
        sleep(READ_TIME / 6).await;
        let (_, readers) = ended(&ingest.metrics().await?);
        let due = stalled.elapsed() > READ_TIME.mul_f64(0.95);
        assert!(readers == 0 || due, "dropped after {:?}", stalled.elapsed());
    }
    assert_eq!(
        ended(&ingest.metrics().await?),
        (0, 1),
        "the one that does not read"
    );
    assert!(unreading.has_ended().await?);
    slow.stop_reading().await.context("one that reads slowly")?;

    let spare = IDLE_TIME.saturating_sub(begun.elapsed());
    sleep(spare.saturating_sub(Duration::from_secs(5))).await;
    idle.ask().await?;
    assert!(silent.ends_within(SOON).await?, "idle for {IDLE_TIME:?}");
    idle.ask().await?;
    Ok(())
}

#[tokio::test]
async fn connections_beyond_the_limits_are_closed_and_those_within_are_served() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place)
        .set("TRUSTED_PROXIES", "127.0.0.9/32")
        .set("CONNECTIONS_MAX", "12")
        .set("CONNECTIONS_PER_ADDRESS_MAX", "3")
        .start()
        .await?;
    let open = async |last: u8, count: usize| {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Client::from([127, 0, 0, last], &ingest).await?;
            client.ask().await?;
            clients.push(client);
        }
        anyhow::Ok(clients)
    };
    let closed = async |last: u8| {
        let mut client = Client::from([127, 0, 0, last], &ingest).await?;
        ensure!(client.has_ended().await?, "127.0.0.{last} was let in");
        anyhow::Ok(())
    };
    // Those of the start's probes go by themselves.
    connected(&ingest, 0).await?;
    let crowd = open(2, 3).await?;
    closed(2).await?;
    let proxied = open(9, 6).await?;
    let others = open(3, 3).await?;
    closed(4).await?;
    closed(9).await?;

    let metrics = connected(&ingest, 12).await?;
    let refused = |reason| metrics.count("hotrow_connections_refused_total", &[("reason", reason)]);
    assert_eq!((refused("address"), refused("full")), (1, 2));
    wait::until("a word in the log", SOON, async || {
        ingest.has_logged("CONNECTIONS_MAX are open").then_some(())
    })
    .await?;

    drop((crowd, others));
    connected(&ingest, 6).await?;
    let mut crowd = open(2, 3).await?;
    for client in &mut crowd {
        client.ask().await?;
    }
    drop(proxied);
    Ok(())
}

#[tokio::test]
async fn descriptors_are_raised_to_what_the_system_allows_and_too_few_are_told()
-> anyhow::Result<()> {
    const CROWD: usize = 300;
    let place = place().await?;
    let settings = ingest(&place);
    let raised = settings.clone().descriptors("-S -n 256").start().await?;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(Client::connect(&raised).await?);
    }
    for client in &mut crowd {
        client.ask().await?;
    }

    let few = settings.descriptors("-n 600").start().await?;
    assert!(few.has_logged("few file descriptors") && few.has_logged("LimitNOFILE"));
    // Half of them are for clients. The rest lets the process work, however many come.
    connected(&few, 0).await?;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(Client::connect(&few).await?);
    }
    for client in &mut crowd {
        client.ask().await?;
    }
    assert!(Client::connect(&few).await?.has_ended().await?);
    drop(crowd);
    connected(&few, 0).await?;
    put_up(&few, super::CHAIR, 1).await
}

#[tokio::test]
async fn a_stop_waits_for_no_client_that_is_idle_slow_or_does_not_read() -> anyhow::Result<()> {
    let place = place().await?;
    let mut ingest = ingest(&place).start().await?;
    put_up_many(&ingest, 300).await?;
    let silent = Client::connect(&ingest).await?;
    let mut idle = Client::connect(&ingest).await?;
    idle.ask().await?;
    let mut half = Client::connect(&ingest).await?;
    half.send(&ALIVE[..10]).await?;
    let mut unreading = Client::connect(&ingest).await?;
    unreading.stop_reading().await?;
    ingest.terminate()?;
    let ended = ingest.ended(GRACE).await?;
    assert_eq!(ended.code(), Some(0), "{}", ingest.log_tail());
    drop((silent, idle, half, unreading));
    Ok(())
}

#[tokio::test]
#[ignore = "takes three minutes: 17,000 connections, and the time until the last of them is ended"]
async fn a_crowd_that_idles_dawdles_or_does_not_read_costs_little_and_leaves_nothing_behind()
-> anyhow::Result<()> {
    const IDLE: usize = 15_000;
    const SLOW: usize = 1_000;
    const UNREADING: usize = 1_000;
    const MEMORY_MAX: u64 = 256 * 1024 * 1024;
    /// The default of `DATABASE_CONNECTIONS`: a crowd makes the pool open all of them.
    const POOL: usize = 20;
    raise_descriptors(u64::try_from(IDLE + SLOW + UNREADING)? + 500)?;
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    // The largest page there is.
    put_up_many(&ingest, 1_000).await?;
    // With all that a process has once it has worked.
    let client = ingest.client()?;
    let pages = stream::iter(0..200).map(|_| client.get("/v1/inventory?limit=1000"));
    pages.buffer_unordered(50).try_collect::<Vec<_>>().await?;
    drop(client);
    connected(&ingest, 0).await?;
    let before = Cost::of(&ingest)?;

    let many = async |count: usize, kind: Kind| -> anyhow::Result<Vec<Client>> {
        stream::iter(0..count)
            .map(|number| kind.connect(number, &ingest))
            .buffer_unordered(100)
            .try_collect()
            .await
    };
    let fresh = many(IDLE / 2, Kind::Fresh).await?;
    connected(&ingest, IDLE / 2).await?;
    let with_fresh = Cost::of(&ingest)?;
    let used = many(IDLE / 2, Kind::Used).await?;
    connected(&ingest, IDLE).await?;
    let with_used = Cost::of(&ingest)?;
    let per = |more: Cost, less: Cost| more.memory.saturating_sub(less.memory) / (IDLE as u64 / 2);
    eprintln!(
        "bytes of a connection: {} before its first request, {} after it",
        per(with_fresh, before),
        per(with_used, with_fresh)
    );

    let others = tokio::spawn({
        let mut client = Client::connect(&ingest).await?;
        async move {
            loop {
                if let Err(error) = client.ask().await {
                    return error;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let slow = many(SLOW, Kind::Slow).await?;
    let unreading = many(UNREADING, Kind::Unreading).await?;
    ensure!(
        !others.is_finished(),
        "others are not served: {:?}",
        others.await
    );
    let peak = meter::peak_memory(ingest.id())?;
    eprintln!("at its peak {} MB", peak >> 20);

    // Each has to get a page first, and all of them ask one pool.
    let gone = 4 * READ_TIME;
    wait::until(
        "the slow ones and those that do not read to be ended",
        gone,
        async || {
            let (heads, readers) = ended(&ingest.metrics().await.ok()?);
            (heads >= SLOW && readers >= UNREADING).then_some(())
        },
    )
    .await?;
    ensure!(
        !others.is_finished(),
        "others are not served: {:?}",
        others.await
    );
    others.abort();
    put_up(&ingest, super::CHAIR, 1).await?;
    drop((fresh, used, slow, unreading));
    connected(&ingest, 0).await?;
    assert!(
        meter::peak_memory(ingest.id())? < MEMORY_MAX,
        "{} MB",
        peak >> 20
    );

    // As it was, but for what an allocator holds back.
    let after = wait::until("the process to be as it was", SOON, async || {
        let cost = Cost::of(&ingest).ok()?;
        let client = ingest.client().ok()?;
        client.get("/livez").await.ok()?;
        let is_back = cost.descriptors <= before.descriptors + POOL
            && cost.memory < before.memory + MEMORY_MAX / 8;
        is_back.then_some(cost)
    });
    let after = after
        .await
        .with_context(|| format!("{before:?}, {:?}", Cost::of(&ingest)))?;
    eprintln!("before {before:?}, after {after:?}");
    Ok(())
}

/// What a client of the crowd does.
#[derive(Clone, Copy)]
enum Kind {
    /// Connects.
    Fresh,
    /// Has one request answered.
    Used,
    /// Sends nearly 64 KB of a head.
    Slow,
    /// Asks for pages and reads nothing.
    Unreading,
}

impl Kind {
    async fn connect(self, number: usize, ingest: &Process) -> anyhow::Result<Client> {
        // Each address has fewer ports than there are clients, and 5,000 connections at most.
        let address = [127, 0, 1, u8::try_from(number % 20)? + 1];
        let mut client = Client::from(address, ingest).await?;
        match self {
            Self::Fresh => {}
            Self::Used => client.ask().await?,
            Self::Slow => {
                let head = format!("GET /livez HTTP/1.1\r\nx: {}", "x".repeat(60_000));
                // It may be ended before it has sent all of it.
                let _ = client.stream.write_all(head.as_bytes()).await;
            }
            Self::Unreading => {
                let _ = client.stop_reading().await;
            }
        }
        Ok(client)
    }
}

/// Products with the longest of titles.
async fn put_up_many(ingest: &Process, count: usize) -> anyhow::Result<()> {
    let (client, title) = (ingest.client()?, "x".repeat(200));
    for number in 0..count {
        let product = Product {
            title: &title,
            ..Product::chairs(1)
        };
        let sku = format!("chair-{number:04}");
        client.put_inventory(&sku, product).await?.expect(201)?;
    }
    Ok(())
}

/// Waits until so many clients are connected.
async fn connected(ingest: &Process, count: usize) -> anyhow::Result<Metrics> {
    let what = format!("{count} connections");
    wait::until(&what, SOON, async || {
        let metrics = ingest.metrics().await.ok()?;
        let open = usize::try_from(metrics.count("hotrow_connections", &[])).ok()?;
        (open == count).then_some(metrics)
    })
    .await
}

/// How many connections were ended for a slow head, and for a slow reader.
fn ended(metrics: &Metrics) -> (usize, usize) {
    let ended = |reason| {
        let labels = [("reason", reason)];
        let ended = metrics.count("hotrow_connections_ended_total", &labels);
        usize::try_from(ended).unwrap_or(usize::MAX)
    };
    (ended("slow_head"), ended("slow_reader"))
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Resident, in bytes.
    memory: u64,
    descriptors: usize,
}

impl Cost {
    fn of(process: &Process) -> anyhow::Result<Self> {
        Ok(Self {
            memory: meter::memory(process.id())?,
            descriptors: meter::descriptors(process.id())?,
        })
    }
}

/// Lets this process have so many descriptors: the clients are in it.
fn raise_descriptors(needed: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        hard >= needed,
        "the system allows {hard} file descriptors and this claim needs {needed}: raise it with `ulimit -Hn`"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard)?;
    Ok(())
}
