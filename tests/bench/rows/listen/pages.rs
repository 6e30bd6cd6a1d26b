//! The pages themselves: in processes of their own, so that there may be more of them than one process has
//! descriptors, and so that who measures the purchases does not wait for them.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use clap::Args;
use hotrow_tests::{load, wait};
use memchr::memmem;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
};

use crate::{
    goods::{LISTENED_TO, PLENTY},
    rows::slow_clients::connections,
};

/// How long all may take to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
/// How long all may take to hear of the last change.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// A state that took longer counts as one that took so long, in milliseconds.
const TOOK_MS_MAX: usize = 20_000;

/// So many milliseconds after the start of a round there are so many more pieces of a product: a page knows from the
/// number when the change was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Milliseconds since 1970.
    at: u64,
}

impl Start {
    pub(super) fn now() -> anyhow::Result<Self> {
        Ok(Self { at: unix_ms()? })
    }

    /// Milliseconds since then.
    pub(super) fn elapsed(self) -> anyhow::Result<u32> {
        Ok(u32::try_from(unix_ms()?.saturating_sub(self.at))?)
    }
}

fn unix_ms() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

/// When the last change of each product was asked for, in milliseconds since the start.
pub(super) type Last = [u32; LISTENED_TO.len()];

/// So many states were heard after so many milliseconds: the index.
pub(super) type TookMs = Vec<u64>;

/// A process of pages that listen. Dropped, it is killed.
pub(super) struct Pages {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pages {
    /// Opens the streams, and waits until each has begun.
    pub(super) async fn open(door: SocketAddr, count: usize, start: Start) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("pages")
            .args([door.to_string(), count.to_string(), start.at.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the pages")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut pages = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        spawn_blocking(move || {
            let begun: usize = pages.read()?;
            ensure!(begun == count, "{begun} of {count} pages listen");
            Ok(pages)
        })
        .await?
    }

    /// Waits until each page has the last change of each product, and ends them. Returns how long all states took.
    pub(super) async fn end(mut self, last: Last) -> anyhow::Result<TookMs> {
        writeln!(self.input, "{}", serde_json::to_string(&last)?)?;
        spawn_blocking(move || self.read()).await?
    }

    fn read<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the pages failed; what they wrote is above")
    }
}

/// What a process of pages is told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PagesArguments {
    door: SocketAddr,
    count: usize,
    start: u64,
}

impl PagesArguments {
    /// Listens until standard input says what the last changes are, and until all pages have those. Ends without a
    /// word when whoever asked for it is gone.
    pub(crate) async fn listen(self) -> anyhow::Result<()> {
        load::allow_open_files(self.count)?;
        let start = Start { at: self.start };
        let heard = Arc::new(Heard::new(start, self.count));
        let _pages = self.begin(&heard).await?;
        say(&self.count)?;
        let mut line = String::new();
        let line = spawn_blocking(move || io::stdin().read_line(&mut line).map(|_| line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        heard.by_all(serde_json::from_str(&line)?).await?;
        say(&heard.took_ms())
    }

    async fn begin(self, heard: &Arc<Heard>) -> anyhow::Result<JoinSet<()>> {
        let question = format!(
            "GET /v1/live?skus={} HTTP/1.1\r\nhost: x\r\n\r\n",
            LISTENED_TO.join(",")
        );
        let mut pages = JoinSet::new();
        let streams = connections(self.door, self.count).await?;
        for (page, mut stream) in streams.into_iter().enumerate() {
            let asked = stream.write_all(question.as_bytes()).await;
            asked.context("ask for a stream")?;
            let heard = Arc::clone(heard);
            pages.spawn(async move {
                // A page whose stream ends is one that does not hear of the last change.
                let _ = hear(stream, page, &heard).await;
            });
        }
        let all = self.count * LISTENED_TO.len();
        wait::until("every page to listen", BEGUN_WITHIN, async || {
            (heard.begun.load(Ordering::Relaxed) == all).then_some(())
        })
        .await?;
        Ok(pages)
    }
}

fn say(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// What the pages of a process have heard.
struct Heard {
    start: Start,
    /// How many first states there were.
    begun: AtomicUsize,
    /// By page: the newest change of each product, by when it was asked for.
    newest: Vec<[AtomicU32; LISTENED_TO.len()]>,
    /// So many states took so many milliseconds.
    took_ms: Vec<AtomicU64>,
}

impl Heard {
    fn new(start: Start, pages: usize) -> Self {
        let none = |_| [const { AtomicU32::new(0) }; LISTENED_TO.len()];
        Self {
            start,
            begun: AtomicUsize::new(0),
            newest: (0..pages).map(none).collect(),
            took_ms: (0..=TOOK_MS_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A page has this many pieces of a product.
    fn take(&self, page: usize, product: usize, available: i64) {
        let Ok(asked) = u32::try_from(available - PLENTY) else {
            return;
        };
        if asked == 0 {
            self.begun.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.newest[page][product].store(asked, Ordering::Relaxed);
        let now = self.start.elapsed().unwrap_or(u32::MAX);
        let took = usize::try_from(now.saturating_sub(asked)).unwrap_or(TOOK_MS_MAX);
        self.took_ms[took.min(TOOK_MS_MAX)].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until every page has the last change of every product.
    async fn by_all(&self, last: Last) -> anyhow::Result<()> {
        let is_up_to_date = |page: &[AtomicU32; LISTENED_TO.len()]| {
            let newest = page.iter().map(|it| it.load(Ordering::Relaxed));
            newest.eq(last)
        };
        wait::until(
            "every page to hear of the last change",
            HEARD_WITHIN,
            async || self.newest.iter().all(is_up_to_date).then_some(()),
        )
        .await
    }

    fn took_ms(&self) -> TookMs {
        let counts = self.took_ms.iter();
        counts.map(|it| it.load(Ordering::Relaxed)).collect()
    }
}

/// Takes in what a stream says, to its end.
async fn hear(mut stream: TcpStream, page: usize, heard: &Heard) -> io::Result<()> {
    const PRODUCT: &[u8] = b"\"sku\":\"live-";
    const STOCK: &[u8] = b"\",\"available\":";
    let find = memmem::Finder::new(PRODUCT);
    let mut unread = Vec::with_capacity(1_024);
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
            let product = usize::from(unread[product] - b'0');
            heard.take(page, product, available.parse().unwrap_or(0));
            at = number + length;
        }
        unread.drain(..at);
    }
    Ok(())
}
