//! The server: connections, their limits, and the drain.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::peer::Peer;

/// How long a connection may be without a complete head of a request: longer than balancers keep
/// theirs open between requests (60 s is common), so that none is closed as it is used again.
const HEAD_TIME_MAX: Duration = Duration::from_secs(75);
/// At the end, how long connections may linger before and after the last request is answered.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted, where the system allows as many (`net.core.somaxconn`).
/// With the usual 128, a crowd that comes in the same instant is let in by handfuls: whom the queue has
/// no room for tries again after a second.
const BACKLOG: u32 = 4_096;
/// The pause after the operating system had no connection to give (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until `shutdown`, then lets each finish the request it is in.
///
/// HTTP/1.1 only: what speaks HTTP/2 with browsers stands in front, together with TLS.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let requests = TaskTracker::new();
    let hang_up = CancellationToken::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX);
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        let service = service(&router, Peer(peer.ip()), &requests);
        let connection = graceful.watch(http.serve_connection(io(stream), service));
        let hang_up = hang_up.clone();
        // A connection that breaks is the client's affair.
        tokio::spawn(async move { drop(hang_up.run_until_cancelled(connection).await) });
    }
    drop(listener);
    drain(graceful, &requests).await;
    hang_up.cancel();
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

fn io(stream: TcpStream) -> TokioIo<TcpStream> {
    // Answers are small and each is complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    TokioIo::new(stream)
}

fn service(
    router: &Router,
    peer: Peer,
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
        requests.track_future(router.clone().oneshot(request))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use super::*;

    #[tokio::test]
    async fn a_crowd_is_let_in_that_comes_before_anybody_is_accepted() -> anyhow::Result<()> {
        /// Whom the queue has no room for would try for minutes.
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
