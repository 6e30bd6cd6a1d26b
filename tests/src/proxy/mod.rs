//! A TCP proxy in front of a server. A test changes what it does while it runs.

mod clock;
mod connection;

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::Context;
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    runtime,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use url::Url;

use self::clock::Clock;
use crate::servers::free_port;

/// What the proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards at once.
    Pass,
    /// Forwards each byte that much later, in order, with no limit to what is under way: a longer
    /// wire. A round trip takes twice as much longer.
    Delay(Duration),
    /// Accepts connections and keeps them open, but forwards nothing until the mode changes.
    Stall,
    /// Cuts all connections and refuses new ones.
    Refuse,
}

/// A proxy on a thread of its own; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    /// `None` only while dropping: closing it ends the thread.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Order {
    mode: Mode,
    done: oneshot::Sender<anyhow::Result<()>>,
}

impl Proxy {
    /// A proxy in front of the server that `url` names. It passes until told otherwise.
    ///
    /// # Errors
    /// When `url` names no server, or no port is free.
    pub async fn in_front_of(url: &str) -> anyhow::Result<Self> {
        let server = Url::parse(url)?;
        let host = server
            .host_str()
            .with_context(|| format!("{url} has no host"))?;
        let port = server
            .port_or_known_default()
            .or_else(|| default_port(server.scheme()));
        let port = port.with_context(|| format!("{url} has no port"))?;
        let upstream = lookup_host((host, port))
            .await?
            .next()
            .with_context(|| format!("{host} has no address"))?;

        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let (orders, receiver) = mpsc::channel(1);
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let clock = Clock::start();
        // A runtime of its own keeps the added delay exact, however busy the test's is.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("proxy".into()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, upstream, receiver, clock)) {
                eprintln!("the proxy at {address} ended: {error:#}");
            }
        })?;
        Ok(Self {
            address,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// `url` with the proxy's address instead of the server's.
    ///
    /// # Errors
    /// When `url` names no server.
    pub fn url(&self, url: &str) -> anyhow::Result<String> {
        let mut url = Url::parse(url)?;
        url.set_ip_host(self.address.ip())
            .ok()
            .with_context(|| format!("{url} has no host"))?;
        url.set_port(Some(self.address.port()))
            .ok()
            .with_context(|| format!("{url} has no port"))?;
        Ok(url.into())
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what is done with connections, the open ones too. When this returns, new
    /// connections are treated in the new way and [`Mode::Refuse`] has cut the old ones.
    ///
    /// # Errors
    /// When the proxy cannot listen again after [`Mode::Refuse`].
    pub async fn set(&self, mode: Mode) -> anyhow::Result<()> {
        let (done, is_done) = oneshot::channel();
        let orders = self.orders.as_ref().context("the proxy is being dropped")?;
        orders
            .send(Order { mode, done })
            .await
            .ok()
            .context("the proxy has ended")?;
        is_done.await.context("the proxy has ended")?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        // It has said why, if it ended in error.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    upstream: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    clock: Clock,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(TcpListener::from_std(listener)?);
    let (mode, current_mode) = watch::channel(Mode::Pass);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { mode: new_mode, done }) = order else { return Ok(()) };
                mode.send_replace(new_mode);
                let result = if new_mode == Mode::Refuse {
                    listener = None;
                    connections.shutdown().await;
                    Ok(())
                } else if listener.is_none() {
                    TcpListener::bind(address).await.map(|bound| listener = Some(bound)).context("listen again")
                } else {
                    Ok(())
                };
                // Whoever gave the order may have stopped waiting.
                let _ = done.send(result);
            }
            client = accept(listener.as_ref()) => {
                connections.spawn(connection::forward(client, upstream, current_mode.clone(), clock.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next client; none ever while nobody listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        // An error here is the client's: it went away before it was accepted.
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "postgres" | "postgresql" => Some(5432),
        "amqp" => Some(5672),
        _ => None,
    }
}
