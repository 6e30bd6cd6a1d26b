//! Pages that listen: how soon thousands of them hear of a change, what each costs, and what those who buy
//! meanwhile notice of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hotrow_tests::{Client, Process, load, load::Report, meter, wait};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::interval,
};
use tokio_util::sync::CancellationToken;

use super::{Bench, Conditions, sale::Sale, slow_clients::connections};
use crate::{
    goods::{Goods, LISTENED_TO, PLENTY},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
};

/// Purchases beside those who listen, in an open loop: far below what the machine can do, so that what is measured is
/// what they notice and not what is left.
const BUYERS: usize = 256;
const PURCHASES_PER_SECOND: f64 = 2_000.0;
const MEASURED_MIN: Duration = Duration::from_secs(4);
/// One product changes at a time, four times a second altogether.
const CHANGE_EVERY: Duration = Duration::from_millis(250);
/// Changes of one product that there is room for.
const CHANGES_MAX: usize = 400;
/// Descriptors beside those of the listeners. Some machines allow a process 20,000 altogether.
const RESERVE: usize = 500;
/// How long all may take to hear of the last change.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// One round: purchases alone, then with pages that listen at two ingest processes while the stock changes.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let conditions = bench.conditions;
    load::allow_open_files(conditions.listeners + BUYERS + RESERVE)?;
    let shop = Shop::open(Distance::Near, &Goods::listened_to()).await?;
    let (ingest, worker) = (shop.ingest(), shop.worker());
    let (here, there, worker) = tokio::try_join!(ingest.start(), ingest.start(), worker.start())?;
    let doors = [&here, &there];
    let alone = buy(conditions, &here).await?;
    settled(&worker, alone.accepted.len()).await?;
    let memory = memory(doors)?;
    let heard = Arc::new(Heard::default());
    let listeners = listen(doors, conditions.listeners, &heard).await?;
    let kib = kib_each(memory, self::memory(doors)?, conditions.listeners);

    let client = here.client()?;
    let over = CancellationToken::new();
    let purchases = async {
        let _over = over.clone().drop_guard();
        buy(conditions, &here).await
    };
    let changes = change_until(&over, &client, &heard);
    let (beside, ()) = tokio::try_join!(purchases, changes)?;
    heard.by_all(conditions.listeners).await?;
    drop(listeners);
    settled(&worker, alone.accepted.len() + beside.accepted.len()).await?;
    shop.check(&alone, alone.accepted.len()).await?;
    shop.check(&beside, beside.accepted.len()).await?;
    drop((here, there, worker));
    shop.close().await?;
    let p99 = |report: &Report| report.accept_times.ms(0.99);
    Ok(Round::default()
        .with(Figure::AcceptedPerSecond, beside.accepted_per_second())
        .with(Figure::P50Ms, beside.accept_times.ms(0.5))
        .with(Figure::P99Ms, p99(&beside))
        .with(Figure::ToldP50Ms, heard.ms(0.5))
        .with(Figure::ToldP99Ms, heard.ms(0.99))
        .with(Figure::ListenerKib, kib)
        .with(
            Figure::RateKept,
            beside.accepted_per_second() / alone.accepted_per_second(),
        )
        .with(Figure::P99Grown, p99(&beside) / p99(&alone)))
}

async fn buy(conditions: Conditions, door: &Process) -> anyhow::Result<Report> {
    let measured = conditions.measured.max(MEASURED_MIN);
    let load = Sale::hot(BUYERS).load(door.address()?)?;
    let report = load
        .lasting(conditions.warm_up, measured)
        .per_second(PURCHASES_PER_SECOND)
        .run()
        .await?;
    ensure!(
        report.refusals() == 0,
        "orders were refused: {:?}",
        report.refused_by_code()
    );
    Ok(report)
}

fn memory(doors: [&Process; 2]) -> anyhow::Result<u64> {
    let [here, there] = doors.map(|door| meter::memory(door.id()));
    Ok(here? + there?)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn kib_each(before: u64, after: u64, listeners: usize) -> f64 {
    after.saturating_sub(before) as f64 / 1_024.0 / listeners as f64
}

/// When each change was asked for, and how long it took until pages had it.
struct Heard {
    /// By product, and then by how many pieces it has more than at the beginning.
    asked: [Vec<OnceLock<Instant>>; LISTENED_TO.len()],
    /// Of each product, the newest change that was asked for.
    newest: [AtomicUsize; LISTENED_TO.len()],
    /// Of each product, how many pages have the newest change.
    up_to_date: [AtomicUsize; LISTENED_TO.len()],
    /// So many states took so many milliseconds.
    took_ms: Vec<AtomicU32>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            asked: LISTENED_TO.map(|_| (0..CHANGES_MAX).map(|_| OnceLock::new()).collect()),
            newest: [const { AtomicUsize::new(0) }; LISTENED_TO.len()],
            up_to_date: [const { AtomicUsize::new(0) }; LISTENED_TO.len()],
            took_ms: (0..20_000).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

impl Heard {
    /// A page has this change of a product.
    fn take(&self, product: usize, change: usize) {
        let Some(asked) = self.asked[product].get(change).and_then(OnceLock::get) else {
            return;
        };
        let ms = usize::try_from(asked.elapsed().as_millis()).unwrap_or(usize::MAX);
        let ms = ms.min(self.took_ms.len() - 1);
        self.took_ms[ms].fetch_add(1, Ordering::Relaxed);
        if change == self.newest[product].load(Ordering::Relaxed) {
            self.up_to_date[product].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every page has the newest change of every product.
    async fn by_all(&self, listeners: usize) -> anyhow::Result<()> {
        wait::until(
            "every page to hear of the last change",
            HEARD_WITHIN,
            async || {
                let is_told = |it: &AtomicUsize| it.load(Ordering::Relaxed) >= listeners;
                self.up_to_date.iter().all(is_told).then_some(())
            },
        )
        .await
    }

    /// The time within which this share of all states was heard, in milliseconds.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts far below 2^52"
    )]
    fn ms(&self, share: f64) -> f64 {
        let counts = || {
            self.took_ms
                .iter()
                .map(|it| u64::from(it.load(Ordering::Relaxed)))
        };
        let mut left = (counts().sum::<u64>() as f64 * share).ceil() as u64;
        let reaches = |count: u64| {
            left = left.saturating_sub(count);
            left == 0
        };
        counts().map(reaches).position(|it| it).unwrap_or(0) as f64
    }
}

/// Changes one product after the other. A change that was asked for is made before it ends.
async fn change_until(
    over: &CancellationToken,
    client: &Client,
    heard: &Heard,
) -> anyhow::Result<()> {
    let mut ticks = interval(CHANGE_EVERY);
    for change in 1..CHANGES_MAX {
        for (product, sku) in LISTENED_TO.iter().enumerate() {
            if over.run_until_cancelled(ticks.tick()).await.is_none() {
                return Ok(());
            }
            heard.up_to_date[product].store(0, Ordering::Relaxed);
            heard.newest[product].store(change, Ordering::Relaxed);
            let _ = heard.asked[product][change].set(Instant::now());
            client.restock(sku, 1, None).await?.expect(200)?;
        }
    }
    anyhow::bail!("there were more changes than there is room for")
}

/// Opens the streams, half of them at each process, and waits until each has begun.
async fn listen(
    doors: [&Process; 2],
    listeners: usize,
    heard: &Arc<Heard>,
) -> anyhow::Result<JoinSet<()>> {
    let mut pages = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for door in doors {
        for stream in open(door.address()?, listeners / doors.len()).await? {
            let (heard, begun) = (Arc::clone(heard), Arc::clone(&begun));
            pages.spawn(async move {
                // A page whose stream ends is one that does not hear of the last change.
                let _ = hear(stream, &heard, &begun).await;
            });
        }
    }
    wait::until("every page to listen", HEARD_WITHIN, async || {
        (begun.load(Ordering::Relaxed) == listeners).then_some(())
    })
    .await?;
    Ok(pages)
}

async fn open(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let question = format!(
        "GET /v1/live?skus={} HTTP/1.1\r\nhost: x\r\n\r\n",
        LISTENED_TO.join(",")
    );
    let mut streams = connections(address, count).await?;
    for stream in &mut streams {
        stream
            .write_all(question.as_bytes())
            .await
            .context("ask for a stream")?;
    }
    Ok(streams)
}

/// Takes in what a stream says, to its end.
async fn hear(mut stream: TcpStream, heard: &Heard, begun: &AtomicUsize) -> std::io::Result<()> {
    const PRODUCT: &[u8] = b"\"sku\":\"live-";
    const STOCK: &[u8] = b"\",\"available\":";
    let find = memmem::Finder::new(PRODUCT);
    let mut unread = Vec::with_capacity(1_024);
    let mut states = 0;
    while stream.read_buf(&mut unread).await? > 0 {
        let mut at = 0;
        while let Some(found) = find.find(&unread[at..]) {
            let product = at + found + PRODUCT.len();
            let number = product + 1 + STOCK.len();
            let rest = unread.get(number..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| !byte.is_ascii_digit()) else {
                // The rest of it is still on its way.
                break;
            };
            let available = std::str::from_utf8(&rest[..length]).unwrap_or_default();
            let change = available.parse().unwrap_or(0).max(PLENTY) - PLENTY;
            let product = usize::from(unread[product] - b'0');
            heard.take(product, usize::try_from(change).unwrap_or(0));
            states += 1;
            if states == LISTENED_TO.len() {
                begun.fetch_add(1, Ordering::Relaxed);
            }
            at = number + length;
        }
        unread.drain(..at);
    }
    Ok(())
}
