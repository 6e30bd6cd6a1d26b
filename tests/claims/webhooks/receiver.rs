//! A receiver of webhooks: an HTTP server of the test that notes what comes and answers as the path says.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, sync::watch};

use crate::localhost;

/// More than anybody should read of an answer.
const BIG: usize = 10 * 1024 * 1024;
/// For so long a request at the gate is certainly waited for: its sender gives up after 15 s, and may be heard late.
const PATIENT: Duration = Duration::from_secs(12);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    /// Whether a secret has signed it.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let webhook = Webhook::new(secret).expect("a secret");
        webhook.verify(&self.body, &self.headers).is_ok()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str());
        value.and_then(Result::ok).unwrap_or_default()
    }

    /// The event in it.
    pub fn event(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A server that ends with the test's runtime.
#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<Noted>,
}

struct Noted {
    received: Mutex<Vec<Received>>,
    /// Whether `/gate` answers, with 200 or the status behind it.
    gate: watch::Sender<bool>,
    /// When those at the gate came to it.
    at_the_gate: Mutex<Vec<Instant>>,
    most_at_the_gate: AtomicUsize,
    /// Bytes of `/big` that somebody took.
    taken: AtomicUsize,
}

impl Receiver {
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(Noted {
            received: Mutex::default(),
            gate: watch::Sender::new(false),
            at_the_gate: Mutex::default(),
            most_at_the_gate: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, state })
    }

    /// The same behind TLS, and the certificate that vouches for `localhost`, as PEM.
    pub async fn start_tls() -> anyhow::Result<(Self, String)> {
        let receiver = Self::start().await?;
        let (acceptor, certificate) = localhost::tls()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&receiver.state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(service);
                    let serving = http1::Builder::new();
                    let _ = serving
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let state = receiver.state;
        Ok((Self { address, state }, certificate))
    }

    /// Where a path of it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came to a path.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let received = self.state.received();
        let at_path = received.iter().filter(|it| it.path == path);
        at_path.cloned().collect()
    }

    /// The different events that came to a path.
    pub fn ids(&self, path: &str) -> BTreeSet<String> {
        let received = self.state.received();
        let at_path = received.iter().filter(|it| it.path == path);
        at_path
            .map(|it| it.header("webhook-id").to_owned())
            .collect()
    }

    /// Lets everybody at the gate pass, or holds them.
    pub fn open_gate(&self, is_open: bool) {
        self.state.gate.send_replace(is_open);
    }

    /// How many are at the gate.
    pub fn at_the_gate(&self) -> usize {
        self.state.here().len()
    }

    /// How many were at the gate at the same time.
    pub fn most_at_the_gate(&self) -> usize {
        self.state.most_at_the_gate.load(Ordering::SeqCst)
    }

    /// How much of the big answer was taken, by the kernel too.
    pub fn taken(&self) -> usize {
        self.state.taken.load(Ordering::SeqCst)
    }
}

impl Noted {
    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self) -> MutexGuard<'_, Vec<Instant>> {
        let here = self.at_the_gate.lock();
        here.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes who is at the gate, however they leave.
struct AtTheGate {
    state: Arc<Noted>,
    since: Instant,
}

impl AtTheGate {
    fn enter(state: &Arc<Noted>) -> Self {
        let since = Instant::now();
        let mut here = state.here();
        here.push(since);
        // That a sender has given up may be noticed here after its next request has come.
        let patient = here.iter().filter(|it| it.elapsed() < PATIENT);
        state
            .most_at_the_gate
            .fetch_max(patient.count(), Ordering::SeqCst);
        let state = Arc::clone(state);
        Self { state, since }
    }
}

impl Drop for AtTheGate {
    fn drop(&mut self) {
        let mut here = self.state.here();
        if let Some(place) = here.iter().position(|it| *it == self.since) {
            here.swap_remove(place);
        }
    }
}

async fn answer(
    State(state): State<Arc<Noted>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let received = Received {
        path: path.clone(),
        headers,
        body,
    };
    state.received().push(received);
    let mut parts = path.trim_start_matches('/').split('/');
    let (kind, value) = (parts.next().unwrap_or_default(), parts.next());
    match kind {
        "status" => status(value),
        "later" => {
            let wait = [(header::RETRY_AFTER, value.unwrap_or("1").to_owned())];
            (StatusCode::TOO_MANY_REQUESTS, wait).into_response()
        }
        "redirect" => {
            let elsewhere = [(header::LOCATION, "/ok/redirected")];
            (StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response()
        }
        "hang" => std::future::pending().await,
        "gate" => {
            let _here = AtTheGate::enter(&state);
            let mut gate = state.gate.subscribe();
            let _ = gate.wait_for(|is_open| *is_open).await;
            status(value)
        }
        "big" => big(state),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn status(value: Option<&str>) -> Response {
    let status = value.and_then(|value| value.parse().ok());
    status.unwrap_or(StatusCode::OK).into_response()
}

/// An answer that counts how much of it is taken.
fn big(state: Arc<Noted>) -> Response {
    const PART: usize = 16 * 1024;
    let parts = futures_util::stream::iter(0..BIG / PART).map(move |_| {
        state.taken.fetch_add(PART, Ordering::SeqCst);
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; PART]))
    });
    Body::from_stream(parts).into_response()
}
