//! A client that minds no rule of HTTP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use hotrow_tests::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::SOON;

/// A request that is answered in a few bytes.
pub const ALIVE: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
/// One that is answered in many.
const PAGE: &str = "GET /v1/inventory?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n";

/// A client that sends what a test says, and reads when it does.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn connect(ingest: &Process) -> anyhow::Result<Self> {
        Self::from([127, 0, 0, 1], ingest).await
    }

    /// One that connects from an address of its own. It takes little without reading it.
    pub async fn from(address: [u8; 4], ingest: &Process) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?;
        socket.bind(SocketAddr::from((Ipv4Addr::from(address), 0)))?;
        let stream = timeout(SOON, socket.connect(ingest.address()?)).await??;
        Ok(Self { stream })
    }

    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(timeout(SOON, self.stream.write_all(text.as_bytes())).await??)
    }

    /// Asks for something, and checks that it is answered.
    pub async fn ask(&mut self) -> anyhow::Result<()> {
        self.send(ALIVE).await?;
        let status = self.answer().await?;
        ensure!(status == 200, "{status}");
        Ok(())
    }

    /// The status of an answer that is there at once, and small.
    pub async fn answer(&mut self) -> anyhow::Result<u16> {
        let mut answer = vec![0; 4_096];
        let read = timeout(SOON, self.stream.read(&mut answer)).await??;
        let answer = String::from_utf8_lossy(&answer[..read]);
        let status = answer
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        Ok(status
            .with_context(|| format!("no answer: {answer:?}"))?
            .parse()?)
    }

    /// Asks for pages until no more can be sent, because no answer can be written any more.
    pub async fn stop_reading(&mut self) -> anyhow::Result<()> {
        const FULL: Duration = Duration::from_secs(1);
        let pages = PAGE.repeat(100);
        while let Ok(sent) = timeout(FULL, self.stream.write_all(pages.as_bytes())).await {
            sent?;
        }
        Ok(())
    }

    /// Reads so many bytes.
    pub async fn read_some(&mut self, bytes: usize) -> anyhow::Result<()> {
        let mut read = vec![0; bytes];
        timeout(SOON, self.stream.read_exact(&mut read)).await??;
        Ok(())
    }

    /// Reads to the end of the connection, however it comes.
    pub async fn has_ended(&mut self) -> anyhow::Result<bool> {
        self.ends_within(SOON).await
    }

    pub async fn ends_within(&mut self, time: Duration) -> anyhow::Result<bool> {
        let read = async {
            let mut bytes = vec![0; 64 * 1024];
            while self
                .stream
                .read(&mut bytes)
                .await
                .is_ok_and(|read| read > 0)
            {}
        };
        Ok(timeout(time, read).await.is_ok())
    }
}
