//! The HTTP client of webhooks: one request, one answer, and no more of the network than is allowed.
//!
//! The connector resolves names itself and checks each address right before it connects, whatever the URL looked like
//! when it was registered. There is no proxy, no redirect, and no HTTP/2, so that one request is one connection at a
//! time.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hotrow_shared::webhook::{AllowedNetworks, REQUESTS_MAX, Scheme};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Uri,
    body::Incoming,
    header::{self, HeaderMap},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use moka::future::Cache;
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tower_service::Service;

use super::{attempt::Outcome, sign::Signed};

/// How long a request may take, from finding the address to the head of the answer.
const REQUEST_MAX: Duration = Duration::from_secs(15);
/// How long one of several addresses may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, so that its connection can be used again, and how long that may take. The
/// connection of a longer answer is closed.
const BODY_MAX: usize = 4 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
/// Room for an answer's head.
const HEAD_MAX: usize = 16 * 1024;
/// How long a connection may be idle. Many receivers close theirs after 5 s.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long the addresses of a name are remembered. One look-up at a time is under way for a name: look-ups that get no
/// answer hold threads.
const NAME_KEPT: Duration = Duration::from_secs(5);
/// Names that are remembered.
const NAMES_MAX: u64 = 1_000;

/// What the body is. (`CloudEvents` 1.0, JSON Format, section 3.)
const CONTENT_TYPE: &str = "application/cloudevents+json";
const USER_AGENT: &str = concat!("hotrow/", env!("CARGO_PKG_VERSION"));

/// Sends requests to endpoints.
pub(super) struct Client(legacy::Client<HttpsConnector<Connector>, Full<Bytes>>);

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    /// How long the receiver asks to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Client {
    /// A client that reaches the public internet and these networks.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub(super) fn new(networks: AllowedNetworks) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(networks));
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(REQUESTS_MAX)
            .http1_max_buf_size(HEAD_MAX)
            .build(connector);
        Ok(Self(client))
    }

    /// Posts a signed event.
    pub(super) async fn post(&self, url: &Uri, signed: &Signed, body: Bytes) -> Answer {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header(header::USER_AGENT, USER_AGENT)
            .header("webhook-id", &signed.id)
            .header("webhook-timestamp", &signed.timestamp)
            .header("webhook-signature", &signed.signature)
            .body(Full::new(body));
        let failed = |outcome| Answer {
            outcome,
            status: None,
            retry_after: None,
        };
        let Ok(request) = request else {
            return failed(Outcome::Connection);
        };
        match timeout(REQUEST_MAX, self.0.request(request)).await {
            Err(_) => failed(Outcome::Timeout),
            Ok(Err(error)) => failed(classify(&error)),
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let retry_after = retry_after(response.headers(), Utc::now());
                discard(response.into_body()).await;
                Answer {
                    outcome: Outcome::of_status(status),
                    status: Some(status),
                    retry_after,
                }
            }
        }
    }
}

/// Reads what is short, so that the connection can be used again. Dropping the rest closes it.
async fn discard(mut body: Incoming) {
    let read = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > BODY_MAX {
                return;
            }
        }
    };
    // The answer is known already, whatever becomes of its body.
    let _ = timeout(BODY_TIME_MAX, read).await;
}

/// How long `Retry-After` says to wait: seconds or a date. (RFC 9110, section 10.2.3.)
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

/// Finds out why there is no answer.
fn classify(error: &(dyn Error + 'static)) -> Outcome {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return error.outcome();
        }
        if error.is::<rustls::Error>() {
            return Outcome::Tls;
        }
        // An I/O error does not count what it carries as its source, but the source of that.
        cause = match error.downcast_ref::<io::Error>().map(io::Error::get_ref) {
            Some(Some(carried)) => Some(carried),
            _ => error.source(),
        };
    }
    Outcome::Connection
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the URL names no host")]
    NoHost,
    #[error("the name of the host has no address: {0}")]
    Unresolved(Arc<io::Error>),
    #[error("webhooks must not reach any address of the host")]
    Refused,
    #[error(transparent)]
    Failed(io::Error),
}

impl ConnectError {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::NoHost | Self::Unresolved(_) => Outcome::Unresolved,
            Self::Refused => Outcome::RefusedAddress,
            Self::Failed(_) => Outcome::Connection,
        }
    }
}

/// Connects to the allowed addresses of a host.
#[derive(Clone)]
struct Connector {
    networks: AllowedNetworks,
    names: Cache<(String, u16), Arc<[SocketAddr]>>,
}

impl Connector {
    fn new(networks: AllowedNetworks) -> Self {
        let names = Cache::builder()
            .max_capacity(NAMES_MAX)
            .time_to_live(NAME_KEPT)
            .build();
        Self { networks, names }
    }

    async fn connect(self, url: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let (scheme, usual_port) = match url.scheme_str() {
            Some("https") => (Scheme::Https, 443),
            _ => (Scheme::Http, 80),
        };
        let host = url.host().ok_or(ConnectError::NoHost)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let key = (host, url.port_u16().unwrap_or(usual_port));
        let resolve = async {
            let addresses = lookup_host((key.0.as_str(), key.1)).await?;
            Ok::<Arc<[SocketAddr]>, io::Error>(addresses.collect())
        };
        let addresses = self.names.try_get_with_by_ref(&key, resolve).await;
        let addresses = addresses.map_err(ConnectError::Unresolved)?;
        let mut last = ConnectError::Refused;
        for address in addresses.iter() {
            if !self.networks.admit(scheme, address.ip()) {
                continue;
            }
            match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request goes out whole; waiting for more would only delay it.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => last = ConnectError::Failed(error),
                Err(_) => last = ConnectError::Failed(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(connector.connect(url).await?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:27:00Z").expect("a time");
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            retry_after(&headers, now.to_utc()).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(wait("Wed, 21 Oct 2015 07:26:00 GMT"), Some(0));
        for other in ["", "soon", "-1", "1.5"] {
            assert_eq!(wait(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn no_spelling_of_a_private_address_is_connected_to() {
        let connector = Connector::new(AllowedNetworks::default());
        for url in [
            "https://127.0.0.1:1/",
            "https://localhost:1/",
            "https://[::1]:1/",
            "https://[::ffff:127.0.0.1]:1/",
            "https://0.0.0.0:1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[64:ff9b::7f00:1]:1/",
            "http://1.1.1.1/",
        ] {
            let url: Uri = url.parse().expect("a URL");
            let refused = connector.clone().connect(url.clone()).await;
            assert!(matches!(refused, Err(ConnectError::Refused)), "{url}");
        }
    }
}
