//! One connection through the proxy: two directions, each a reader that stamps and a writer that waits.

use std::{io, net::SocketAddr, time::Instant};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
};

use super::{Mode, clock::Clock};

const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// With the chunk's size, how much may be under way: far more than fits on a wire of a few milliseconds.
const CHUNKS_MAX: usize = 256;

struct Chunk {
    arrived: Instant,
    bytes: Bytes,
}

/// Forwards until both sides have closed, or one fails. Dropped before, it cuts the connection.
pub(super) async fn forward(
    client: TcpStream,
    server: SocketAddr,
    mode: watch::Receiver<Mode>,
    clock: Clock,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let mut ends = Ends {
        client,
        server,
        are_closed: false,
    };
    for stream in [&ends.client, &ends.server] {
        // Cannot fail on a connected socket, and would only be slower.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = ends.client.split();
    let (from_server, to_server) = ends.server.split();
    // A failed direction takes the other with it.
    let both = tokio::try_join!(
        direction(from_client, to_server, mode.clone(), &clock),
        direction(from_server, to_client, mode, &clock),
    );
    ends.are_closed = both.is_ok();
}

/// The two sockets. A cut is to look like one, a reset, and not like an orderly close.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    are_closed: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.are_closed {
            for stream in [&self.client, &self.server] {
                // Fails when the peer was faster, which is as well.
                let _ = stream.set_zero_linger();
            }
        }
    }
}

async fn direction(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    mode: watch::Receiver<Mode>,
    clock: &Clock,
) -> io::Result<()> {
    let (chunks, under_way) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(read(from, chunks), write(to, under_way, mode, clock))?;
    Ok(())
}

async fn read(mut from: ReadHalf<'_>, chunks: mpsc::Sender<Chunk>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES_MAX);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let chunk = Chunk {
            arrived: Instant::now(),
            bytes: buffer.split().freeze(),
        };
        if chunks.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut under_way: mpsc::Receiver<Chunk>,
    mut mode: watch::Receiver<Mode>,
    clock: &Clock,
) -> io::Result<()> {
    while let Some(chunk) = under_way.recv().await {
        let current_mode = *mode.borrow();
        if let Mode::Delay(delay) = current_mode {
            clock.until(chunk.arrived + delay).await;
        }
        if mode.wait_for(|mode| *mode != Mode::Stall).await.is_err() {
            // The proxy has ended.
            return Ok(());
        }
        to.write_all(&chunk.bytes).await?;
    }
    to.shutdown().await
}
