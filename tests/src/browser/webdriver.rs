//! One session of `WebDriver` (W3C, <https://www.w3.org/TR/webdriver2/>) as the driver speaks it: JSON over HTTP.
//!
//! By hand, because of the two crates for it, one is built on a package under the MPL, and the other has
//! `serde_json` keep the sequence of members everywhere, also in the programs that the tests are about.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

/// Longer than a page may take to load, or a script to run.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// A session: one browser with a profile of its own.
pub(super) struct Session {
    http: reqwest::Client,
    url: String,
    process_id: Option<u64>,
}

impl Session {
    /// Starts a browser with these capabilities.
    ///
    /// # Errors
    /// When the driver refuses, or the browser does not start.
    pub(super) async fn open(driver: SocketAddr, capabilities: &Value) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_MAX)
            .build()?;
        let driver = Self {
            http,
            url: format!("http://{driver}/session"),
            process_id: None,
        };
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let opened = driver.post("", wanted).await?;
        let id = opened["sessionId"]
            .as_str()
            .context("the driver gave the session no id")?;
        Ok(Self {
            url: format!("{}/{id}", driver.url),
            http: driver.http,
            process_id: opened["capabilities"]["goog:processID"].as_u64(),
        })
    }

    /// The browser's process, where the driver says which it is.
    pub(super) fn process_id(&self) -> Option<u64> {
        self.process_id
    }

    /// Reads something.
    ///
    /// # Errors
    /// When the browser cannot; the message is its own.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Has the browser do something.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.send(Method::DELETE, "", None).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let what = format!("{method} {path} of the browser");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| what.clone())?;
        let status = answer.status();
        let mut answer: Value = answer.json().await.with_context(|| what.clone())?;
        let value = answer["value"].take();
        if !status.is_success() {
            // Behind the first line comes the driver's own stack.
            let message = value["message"].as_str().unwrap_or_default();
            let message = message.lines().next().unwrap_or_default();
            bail!("{what}: {}: {message}", value["error"]);
        }
        Ok(value)
    }
}
