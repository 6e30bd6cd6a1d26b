//! Reads the document with the keys, from a file or over HTTPS, within bounds of size and time.

use std::{io::Read, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;

use super::settings::JwksAt;

/// How long a read may take, from the name of the host to the last byte.
const READ_MAX: Duration = Duration::from_secs(5);
/// The largest document, in bytes. A set of ten keys has about 20,000.
const DOCUMENT_MAX: usize = 512 * 1024;

const USER_AGENT: &str = concat!("hotrow/", env!("CARGO_PKG_VERSION"));

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Why the document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the file cannot be read")]
    File(#[from] std::io::Error),
    #[error("the server cannot be asked")]
    Request(#[from] hyper_util::client::legacy::Error),
    #[error("the server answers {0}; a redirect is not followed")]
    Status(StatusCode),
    #[error("the answer cannot be read, or has more than {DOCUMENT_MAX} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it takes longer than {READ_MAX:?}")]
    TooSlow,
    #[error("it has more than {DOCUMENT_MAX} bytes")]
    TooLarge,
}

/// Reads the document again and again.
pub(super) enum Fetcher {
    File(PathBuf),
    Https { client: Box<Https>, url: Uri },
}

impl Fetcher {
    /// # Errors
    /// The system's certificates cannot be read.
    pub(super) fn new(at: JwksAt) -> Result<Self, rustls::Error> {
        let url = match at {
            JwksAt::File(path) => return Ok(Self::File(path)),
            JwksAt::Url(url) => url,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        // The next read is minutes away: no connection is kept for it.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self::Https {
            client: Box::new(client),
            url,
        })
    }

    /// # Errors
    /// The document cannot be had in time.
    pub(super) async fn read(&self) -> Result<Bytes, FetchError> {
        let read = async {
            match self {
                Self::File(path) => read_file(path.clone()).await,
                Self::Https { client, url } => get(client, url).await,
            }
        };
        timeout(READ_MAX, read)
            .await
            .unwrap_or(Err(FetchError::TooSlow))
    }
}

async fn read_file(path: PathBuf) -> Result<Bytes, FetchError> {
    let read = move || {
        let mut document = Vec::new();
        let most = u64::try_from(DOCUMENT_MAX).unwrap_or(u64::MAX) + 1;
        std::fs::File::open(path)?
            .take(most)
            .read_to_end(&mut document)?;
        Ok::<_, std::io::Error>(document)
    };
    let document = tokio::task::spawn_blocking(read).await;
    let document = document.map_err(std::io::Error::other)??;
    if document.len() > DOCUMENT_MAX {
        return Err(FetchError::TooLarge);
    }
    Ok(document.into())
}

async fn get(client: &Https, url: &Uri) -> Result<Bytes, FetchError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    let json = header::HeaderValue::from_static("application/json");
    headers.insert(header::ACCEPT, json);
    let agent = header::HeaderValue::from_static(USER_AGENT);
    headers.insert(header::USER_AGENT, agent);
    let response = client.request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), DOCUMENT_MAX);
    let body = body.collect().await.map_err(FetchError::Body)?;
    Ok(body.to_bytes())
}
