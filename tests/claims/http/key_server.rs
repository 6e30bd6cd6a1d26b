//! A server that publishes keys over HTTPS, as an identity provider does, and that fails as one may.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::localhost;

/// How the server answers.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// This status and body.
    Answer(u16, String),
    /// The head of an answer, and nothing more for as long as anybody waits.
    Hang,
}

/// A server that ends with the test.
pub(crate) struct KeyServer {
    /// Where the keys are.
    pub(crate) url: String,
    /// The file of the certificates that are to be trusted.
    pub(crate) roots: String,
    mode: watch::Sender<Mode>,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl KeyServer {
    pub(crate) async fn start(mode: Mode) -> anyhow::Result<Self> {
        let (acceptor, certificate) = localhost::tls()?;
        let folder = tempfile::tempdir()?;
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, certificate)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mode = watch::Sender::new(mode);
        let requests = Arc::new(AtomicUsize::new(0));
        let serving = serve(listener, acceptor, mode.subscribe(), Arc::clone(&requests));
        Ok(Self {
            url: format!("https://localhost:{port}/.well-known/jwks.json"),
            roots: roots.display().to_string(),
            mode,
            requests,
            serving: tokio::spawn(serving),
            _folder: folder,
        })
    }

    /// A server that publishes this.
    pub(crate) async fn of(document: String) -> anyhow::Result<Self> {
        Self::start(Mode::Answer(200, document)).await
    }

    pub(crate) fn become_now(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Refuses connections from now on.
    pub(crate) fn stop(&self) {
        self.serving.abort();
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mode: watch::Receiver<Mode>,
    requests: Arc<AtomicUsize>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let answering = answer(
            stream,
            acceptor.clone(),
            mode.clone(),
            Arc::clone(&requests),
        );
        // A client that goes away has its reasons.
        tokio::spawn(async move { answering.await.unwrap_or_default() });
    }
}

async fn answer(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mode: watch::Receiver<Mode>,
    requests: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(head.starts_with(b"GET /.well-known/jwks.json HTTP/1.1\r\n"));
    requests.fetch_add(1, Ordering::SeqCst);
    let mode = mode.borrow().clone();
    let text = match &mode {
        Mode::Answer(status, body) => format!(
            "HTTP/1.1 {status} Said\r\nlocation: https://localhost/\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
        Mode::Hang => "HTTP/1.1 200 Soon\r\ncontent-length: 1000\r\n\r\n{".to_owned(),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    if matches!(mode, Mode::Hang) {
        // Until the client hangs up.
        let _ = stream.read_u8().await;
    }
    stream.shutdown().await
}
