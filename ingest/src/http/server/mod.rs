//! The server: connections, their limits, and the drain.

pub mod connections;
pub mod descriptors;
mod pace;
pub(crate) mod streams;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::TokioIo,
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::{
    connections::{ConnectionLimits, Connections, Refused},
    pace::{HeadClock, HeadTimer, IDLE_TIME_MAX, Paced, SlowClients},
    streams::Streaming,
};
use super::peer::{Peer, TrustedProxies};

/// The most that is kept of an unfinished head, in bytes. A larger one is answered with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// At the end, how long connections may linger before and after the last request is answered.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted, where the system allows as many (`net.core.somaxconn`).
/// With the usual 128, a crowd that comes in the same instant is let in by handfuls: clients that do
/// not fit try again after a second.
const BACKLOG: u32 = 4_096;
/// How much of its answers a client may leave unread in the kernel, in bytes; Linux counts twice as
/// much for its own use. By itself it would take some megabytes for each.
const SEND_BUFFER: u32 = 128 * 1024;
/// The pause after the operating system had no connection to give (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log says that there is no place for more connections.
const FULL_LOG_PERIOD: Duration = Duration::from_mins(1);

/// Listens at an address.
///
/// # Errors
/// The address is taken, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As `TcpListener::bind` does: else a process that was just killed keeps the port for a minute.
    socket.set_reuseaddr(true)?;
    // Every connection inherits it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until `shutdown`, then lets each finish the request it is in.
///
/// HTTP/1.1 only: what speaks HTTP/2 with browsers stands in front, together with TLS. A connection whose answer is a
/// stream runs on `stream_threads` until its next request.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    proxies: TrustedProxies,
    stream_threads: &Handle,
    shutdown: CancellationToken,
) {
    let connections = Connections::new(limits, proxies);
    let graceful = GracefulShutdown::new();
    let requests = TaskTracker::new();
    let hang_up = CancellationToken::new();
    let mut full_logged = None;
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        let place = match connections.admit(peer.ip()) {
            Ok(place) => place,
            Err(refused) => {
                drop(stream);
                if refused == Refused::Full {
                    log_full(&mut full_logged, limits.max);
                }
                continue;
            }
        };
        let streaming = Streaming::default();
        let service = service(&router, Peer(peer.ip()), streaming.clone(), &requests);
        let (slow, watcher) = (connections.slow().clone(), graceful.watcher());
        let stream_threads = stream_threads.clone();
        let (shutdown, hang_up) = (shutdown.clone(), hang_up.clone());
        tokio::spawn(async move {
            let _place = place;
            // Until something comes, a connection costs no buffers. A look at the first byte, because
            // a socket may be said to be readable when there is nothing.
            let mut byte = [0];
            let first = timeout(IDLE_TIME_MAX, stream.peek(&mut byte));
            if let Some(Ok(Ok(1..))) = shutdown.run_until_cancelled(first).await {
                let connection = Box::pin(converse(stream, service, slow, watcher));
                let run = streams::run(connection, streaming, &stream_threads);
                hang_up.run_until_cancelled(run).await;
            }
        });
    }
    drop(listener);
    drain(graceful, &requests).await;
    hang_up.cancel();
}

/// Answers the requests of one connection to its end. One that breaks is the client's affair.
async fn converse<S>(stream: TcpStream, service: S, slow: SlowClients, watcher: Watcher)
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = axum::response::Response,
            Error = Infallible,
        >,
{
    // Answers are small and each is complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let clock = HeadClock::new(&slow);
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&clock), &slow));
    let mut http = http1::Builder::new();
    http.timer(HeadTimer(clock))
        .header_read_timeout(IDLE_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let _ = watcher.watch(http.serve_connection(io, service)).await;
}

/// Says now and then that clients are turned away. Each is counted.
fn log_full(logged: &mut Option<Instant>, max: usize) {
    if logged.is_none_or(|at| at.elapsed() >= FULL_LOG_PERIOD) {
        tracing::warn!(
            connections_max = max,
            "new connections are closed, because CONNECTIONS_MAX are open"
        );
        *logged = Some(Instant::now());
    }
}

/// Waits until every request is answered and every connection is closed. One that is half-way through
/// the head of a request has not asked for anything yet, and is not waited for.
async fn drain(graceful: GracefulShutdown, requests: &TaskTracker) {
    requests.close();
    let all_closed = graceful.shutdown();
    let all_answered = async {
        sleep(LINGER_MAX).await;
        requests.wait().await;
        sleep(LINGER_MAX).await;
    };
    tokio::select! {
        () = all_closed => {}
        () = all_answered => {}
    }
}

fn service(
    router: &Router,
    peer: Peer,
    streaming: Streaming,
    requests: &TaskTracker,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> + use<> {
    let (router, requests) = (router.clone(), requests.clone());
    service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(streaming.clone());
        let (router, streaming) = (router.clone(), streaming.clone());
        requests.track_future(async move {
            streaming.end().await;
            router.oneshot(request).await
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr, thread};

    use axum::{Extension, routing::get};
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::yield_now,
    };

    use super::{streams::StreamThreads, *};

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    /// Asks on a connection that stays open, and reads until a text has come. Returns everything that was read.
    async fn ask(connection: &mut TcpStream, path: &str, until: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        while !read.ends_with(until.as_bytes()) {
            if connection.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    #[tokio::test]
    async fn a_stream_and_what_is_asked_after_it_run_where_they_belong() -> anyhow::Result<()> {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let is_streamed = async |Extension(streaming): Extension<Streaming>| {
            streaming.begin();
            let names = stream::unfold(0, |said| async move {
                // hyper may ask for the first pieces before the connection can move.
                yield_now().await;
                (said < 50).then(|| (Ok::<_, Infallible>(Bytes::from(thread_name())), said + 1))
            });
            Body::from_stream(names)
        };
        let router = Router::new()
            .route("/stream", get(is_streamed))
            .route("/", get(async || thread_name() + "."));
        let threads = StreamThreads::start()?;
        let limits = ConnectionLimits {
            max: 1,
            per_address_max: 1,
        };
        let shutdown = CancellationToken::new();
        let client = async {
            let _over = shutdown.clone().drop_guard();
            let mut connection = TcpStream::connect(address).await?;
            for _ in 0..2 {
                let streamed = ask(&mut connection, "/stream", "0\r\n\r\n").await?;
                let last = "hotrow-streams\r\n0\r\n\r\n";
                assert!(streamed.ends_with(last), "{streamed}");
                for _ in 0..2 {
                    let answer = ask(&mut connection, "/", ".").await?;
                    assert!(!answer.contains("hotrow-streams"), "{answer}");
                }
            }
            anyhow::Ok(())
        };
        let proxies = TrustedProxies(Vec::new());
        let server = serve(
            listener,
            router,
            limits,
            proxies,
            threads.handle(),
            shutdown.clone(),
        );
        tokio::join!(server, client).1
    }

    #[tokio::test]
    async fn a_crowd_is_let_in_that_comes_before_anybody_is_accepted() -> anyhow::Result<()> {
        /// A client that the queue has no room for would try for minutes.
        const PATIENCE: Duration = Duration::from_secs(30);
        let allowed = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
        let crowd = allowed.trim().parse::<usize>()?.min(500);
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        for _ in 0..crowd {
            waiting.push(tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??);
        }
        assert_eq!(waiting.len(), crowd);
        Ok(())
    }
}
