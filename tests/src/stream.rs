//! A live stream as a test listens to it: `text/event-stream`, read from a connection of its own.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

/// Longer than any answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// One stream.
pub struct Stream {
    response: reqwest::Response,
    /// What was read and not taken apart yet.
    unread: Vec<u8>,
}

/// One thing that was heard on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A state: the name of its event, and its data.
    Event(String, Value),
    /// After how many milliseconds to come back.
    Retry(u64),
    /// A sign of life.
    Comment,
    /// Nothing comes any more.
    End,
}

impl Stream {
    /// Opens a stream with this query at an ingest process.
    ///
    /// # Errors
    /// It is refused, or not a stream of events.
    pub async fn open(
        address: SocketAddr,
        query: &str,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut request = http.get(format!("http://{address}/v1/live?{query}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let sent = timeout(PATIENCE, request.send()).await;
        let response = sent.context("no head of an answer came")??;
        let status = response.status();
        if status != 200 {
            bail!("{status}: {}", response.text().await?);
        }
        let content_type = response.headers().get("content-type");
        ensure!(
            content_type.is_some_and(|it| it == "text/event-stream"),
            "{content_type:?}"
        );
        Ok(Self {
            response,
            unread: Vec::new(),
        })
    }

    /// The headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// What is heard next.
    ///
    /// # Errors
    /// Nothing comes within that time, it is no stream of events, or the connection breaks.
    pub async fn next(&mut self, within: Duration) -> anyhow::Result<Heard> {
        let next = timeout(within, self.read());
        next.await
            .with_context(|| format!("nothing was heard within {within:?}"))?
    }

    /// The next state; comments are passed over.
    ///
    /// # Errors
    /// As [`Stream::next`]; or the stream ends.
    pub async fn state(&mut self, within: Duration) -> anyhow::Result<(String, Value)> {
        loop {
            match self.next(within).await? {
                Heard::Event(name, data) => return Ok((name, data)),
                Heard::Comment => {}
                other => bail!("no state but {other:?}"),
            }
        }
    }

    /// Waits for a state of which that is true; those before it are passed over.
    ///
    /// # Errors
    /// As [`Stream::state`].
    pub async fn state_where(
        &mut self,
        within: Duration,
        is_it: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let wait = async {
            loop {
                let (_, data) = self.state(within).await?;
                if is_it(&data) {
                    return Ok(data);
                }
            }
        };
        let found = timeout(within, wait).await;
        found.with_context(|| format!("waited {within:?} for a state"))?
    }

    async fn read(&mut self) -> anyhow::Result<Heard> {
        const END: &[u8] = b"\n\n";
        loop {
            let end = self.unread.windows(END.len()).position(|it| it == END);
            if let Some(end) = end {
                let block: Vec<_> = self.unread.drain(..end + END.len()).collect();
                return heard(std::str::from_utf8(&block)?);
            }
            let Some(more) = self.response.chunk().await? else {
                ensure!(self.unread.is_empty(), "half an event: {:?}", self.unread);
                return Ok(Heard::End);
            };
            self.unread.extend_from_slice(&more);
        }
    }
}

/// Takes a block of lines apart.
fn heard(block: &str) -> anyhow::Result<Heard> {
    let lines: Vec<_> = block.trim_end().lines().collect();
    Ok(match lines.as_slice() {
        [line] if line.starts_with(':') => Heard::Comment,
        [line] if line.starts_with("retry: ") => Heard::Retry(line["retry: ".len()..].parse()?),
        [event, data] => {
            let event = event.strip_prefix("event: ").context("an event's name")?;
            let data = data.strip_prefix("data: ").context("an event's data")?;
            Heard::Event(event.to_owned(), serde_json::from_str(data)?)
        }
        _ => bail!("no block of a stream: {block:?}"),
    })
}
