//! A receiver of webhooks, as a program elsewhere is one: it verifies what comes, and counts it.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hotrow_tests::{Client, wait};
use reqwest::Method;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, task::JoinHandle};

/// How long the last deliveries may take.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);
/// The header that names a delivery, the same for each attempt.
const ID: &str = "webhook-id";

/// Receives `order.confirmed` until it is dropped.
pub(crate) struct Receiver {
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

struct Seen {
    webhook: Webhook,
    ids: Mutex<BTreeSet<String>>,
}

impl Receiver {
    /// Listens, and has itself registered.
    pub(crate) async fn register(administrator: &Client) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/hotrow", listener.local_addr()?);
        let body = json!({ "url": url, "types": ["order.confirmed"], "description": "the demo" });
        let registered = administrator.send(Method::POST, "/v1/webhooks", &[], Some(body));
        let endpoint = registered.await?.expect(201)?.json()?;
        let secret = endpoint["secret"].as_str().context("no secret")?;
        let seen = Arc::new(Seen {
            webhook: Webhook::new(secret)?,
            ids: Mutex::default(),
        });
        let router = Router::new()
            .route("/hotrow", post(receive))
            .with_state(Arc::clone(&seen));
        let serving = tokio::spawn(async {
            // It ends with the demo.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { seen, serving })
    }

    /// Waits until so many deliveries have come, for a while, and returns how many have.
    pub(crate) async fn delivered(&self, expected: u64) -> u64 {
        let count = || {
            let ids = self.seen.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.len() as u64
        };
        let come = wait::until("the webhooks", DELIVERED_WITHIN, async || {
            (count() >= expected).then_some(())
        });
        // Too few are the verdict's business.
        let _ = come.await;
        count()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers.get(ID).and_then(|id| id.to_str().ok());
    match (seen.webhook.verify(&body, &headers), id) {
        (Ok(()), Some(id)) => {
            let mut ids = seen.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.insert(id.to_owned());
            StatusCode::NO_CONTENT
        }
        _ => StatusCode::UNAUTHORIZED,
    }
}
