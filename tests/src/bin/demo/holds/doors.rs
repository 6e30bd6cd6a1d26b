//! The doors of the shop: its ingest processes in turn, asked until one of them has an answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hotrow_tests::{Client, client::Answer};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

/// How long to leave a door alone that did not say so itself.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Something to ask. It is asked again after a lost answer, so the same twice must be the same as once.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) body: Option<Value>,
}

/// What counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Any word but that the process is busy or away.
    Answered,
    /// What was asked for is settled.
    Settled,
}

pub(super) struct Doors {
    clients: Vec<Client>,
    next: AtomicUsize,
}

impl Doors {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self {
            clients,
            next: AtomicUsize::new(0),
        }
    }

    /// Asks, at another door each time, until there is an answer.
    pub(super) async fn ask(&self, question: &Question, until: Until) -> Answer {
        loop {
            let wait = match self.ask_once(question).await {
                Ok(answer) if until.is_over(&answer) => return answer,
                Ok(answer) => retry_after(&answer).unwrap_or(AGAIN_AFTER),
                // A broken connection: the next door may be better off.
                Err(_) => AGAIN_AFTER,
            };
            sleep(wait).await;
        }
    }

    /// Asks one door, once.
    pub(super) async fn ask_once(&self, question: &Question) -> anyhow::Result<Answer> {
        let Question {
            method,
            path,
            key,
            body,
        } = question;
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        let key = key.as_deref().map(|key| ("idempotency-key", key));
        let answer = self.clients[number].send(method.clone(), path, key.as_slice(), body.clone());
        answer.await
    }
}

impl Until {
    fn is_over(self, answer: &Answer) -> bool {
        let is_open = match answer.status {
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => true,
            // A wait that ended before there was something to tell.
            StatusCode::NOT_MODIFIED | StatusCode::ACCEPTED => self == Self::Settled,
            StatusCode::OK => self == Self::Settled && is_queued(answer),
            StatusCode::CONFLICT => answer.code().as_deref() == Some("not_settled"),
            _ => false,
        };
        !is_open
    }
}

fn is_queued(answer: &Answer) -> bool {
    let document = answer.json().unwrap_or_default();
    document["status"] == "queued"
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.header("retry-after")?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
