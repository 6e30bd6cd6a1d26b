//! Slow clients: what thousands that hold a connection and never finish cost those who buy.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hotrow_tests::load;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::interval,
};

use super::{
    Bench,
    sale::{Sale, accepted},
};
use crate::{
    costs::Payers,
    report::figures::{Figure, Round},
    shop::settled,
};

const IDLE: usize = 15_000;
const SLOW_HEADS: usize = 1_000;
const DEAF: usize = 1_000;
const BUYERS: usize = 256;
/// Descriptors that an ingest process has for other things than connections.
const RESERVE: usize = 1_500;
/// So many addresses of this machine they come from: no address has more connections than one may have, and each has
/// enough ports although those of the rounds before are not free yet.
const ADDRESSES: usize = 16;
/// Connections that are opened at the same time.
const CONNECTING: usize = 64;
/// Those who never read ask for a while until nothing more fits.
const MEASURED_MIN: Duration = Duration::from_secs(3);
/// Between two bytes of a slow head.
const BYTE_EVERY: Duration = Duration::from_millis(500);
/// Of a client that never reads: answers soon have no way out.
const RECEIVE_BUFFER: u32 = 4_096;

/// One round: the slow come first and stay, the others buy meanwhile.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    // The ingest process gets the same limit.
    load::allow_open_files(IDLE + SLOW_HEADS + DEAF + BUYERS + RESERVE)?;
    let sale = Sale::hot(BUYERS);
    let shop = sale.shop().await?;
    let (ingest, worker) = shop.start().await?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let slow = Slow::connect(ingest.address()?).await?;
    let before = payers.costs()?;
    let report = sale
        .load(ingest.address()?)?
        .lasting(
            bench.conditions.warm_up,
            bench.conditions.measured.max(MEASURED_MIN),
        )
        .run()
        .await?;
    settled(&worker, report.accepted.len()).await?;
    let round = payers.add(Round::default(), &before, report.accepted.len())?;
    drop(slow);
    ensure!(
        report.refusals() == 0 && report.accepted_per_second() > 0.0,
        "the others were not served: {:?}",
        report.refused_by_code()
    );
    shop.check(&report, report.accepted.len()).await?;
    let lag = shop.lag(&report).await?;
    drop((ingest, worker));
    shop.close().await?;
    Ok(accepted(round, &report)
        .with(Figure::SettledPerSecond, lag.settled_per_second())
        .with(Figure::SettledP50Ms, lag.p50_ms)
        .with(Figure::SettledP99Ms, lag.p99_ms)
        .with(Figure::SettledP999Ms, lag.p999_ms))
}

/// The slow clients. Dropped, they are gone.
struct Slow {
    _idle: Vec<TcpStream>,
    _busy: JoinSet<()>,
}

impl Slow {
    async fn connect(target: SocketAddr) -> anyhow::Result<Self> {
        let idle = connections(target, IDLE).await?;
        let mut busy = JoinSet::new();
        for stream in connections(target, SLOW_HEADS).await? {
            busy.spawn(send_a_head_slowly(stream));
        }
        for stream in connections(target, DEAF).await? {
            busy.spawn(ask_and_never_read(stream));
        }
        Ok(Self {
            _idle: idle,
            _busy: busy,
        })
    }
}

pub(super) async fn connections(
    target: SocketAddr,
    count: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    stream::iter((0..count).map(|number| connect(target, number)))
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await
}

async fn connect(target: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // 127.0.0.1 is where the buyers come from.
    let last = u8::try_from(2 + number % ADDRESSES)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    socket
        .connect(target)
        .await
        .with_context(|| format!("connect slow client {number} to {target}"))
}

/// Until the peer has enough of it.
async fn send_a_head_slowly(mut stream: TcpStream) {
    const HEAD: &[u8] = b"GET /v1/inventory/chair-123 HTTP/1.1\r\nx-slow: ";
    let mut sent = stream.write_all(HEAD).await;
    let mut pause = interval(BYTE_EVERY);
    while sent.is_ok() {
        pause.tick().await;
        sent = stream.write_all(b"x").await;
    }
}

/// Until nothing more fits into the buffers on the way, and then as long as the peer waits.
async fn ask_and_never_read(mut stream: TcpStream) {
    const QUESTION: &[u8] = b"GET /v1/inventory/chair-123 HTTP/1.1\r\nhost: x\r\n\r\n";
    while stream.write_all(QUESTION).await.is_ok() {}
}
