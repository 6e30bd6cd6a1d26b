//! The HTTP API as a test speaks it: short calls, and answers with everything in them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use uuid::Uuid;

use crate::described;

/// Longer than any answer of the API may take, `Prefer: wait` included.
const PATIENCE: Duration = Duration::from_secs(40);

/// A client of one HTTP listener.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    admin_token: Option<String>,
    /// Whether the answers are those of an ingest process.
    is_of_ingest: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A product, as `PUT /v1/inventory/{sku}` takes it.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// What it is called.
    pub title: &'a str,
    /// The price of one, in the currency's smallest unit.
    pub unit_price_minor: i64,
    /// ISO 4217.
    pub currency: &'a str,
    /// How many are for sale.
    pub available: i64,
}

impl Product<'_> {
    /// A chair at 49.90, `available` times.
    #[must_use]
    pub const fn chairs(available: i64) -> Self {
        Self {
            title: "Chair",
            unit_price_minor: 4_990,
            currency: "EUR",
            available,
        }
    }
}

impl Client {
    /// A client of the listener at `address`.
    ///
    /// # Errors
    /// When the system's resolver cannot be set up.
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            address,
            admin_token: None,
            is_of_ingest: true,
        })
    }

    /// The same client for a server that is no ingest process of this release: nothing describes what it answers.
    #[must_use]
    pub fn of_another_server(mut self) -> Self {
        self.is_of_ingest = false;
        self
    }

    /// The same client with the right to use the admin routes.
    #[must_use]
    pub fn admin(mut self, token: impl Into<String>) -> Self {
        self.admin_token = Some(token.into());
        self
    }

    /// Where it asks.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Orders `items`, pairs of SKU and quantity.
    ///
    /// # Errors
    /// When no answer comes; a refusal is an answer.
    pub async fn order(&self, customer: &str, items: &[(&str, u32)]) -> anyhow::Result<Answer> {
        self.send(
            Method::POST,
            "/v1/orders",
            &[],
            Some(order(customer, items)),
        )
        .await
    }

    /// Orders `items` under an idempotency key.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn order_with_key(
        &self,
        customer: &str,
        items: &[(&str, u32)],
        key: &str,
    ) -> anyhow::Result<Answer> {
        self.send(
            Method::POST,
            "/v1/orders",
            &[("idempotency-key", key)],
            Some(order(customer, items)),
        )
        .await
    }

    /// An order's status by now.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn status(&self, order_id: Uuid) -> anyhow::Result<Answer> {
        self.get(&format!("/v1/orders/{order_id}")).await
    }

    /// An order's status once it is settled, or after `seconds`.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn settled(&self, order_id: Uuid, seconds: u32) -> anyhow::Result<Answer> {
        let prefer = format!("wait={seconds}");
        self.send(
            Method::GET,
            &format!("/v1/orders/{order_id}"),
            &[("prefer", &prefer)],
            None,
        )
        .await
    }

    /// The status of several orders at once.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn statuses(&self, order_ids: &[Uuid]) -> anyhow::Result<Answer> {
        let ids: Vec<_> = order_ids.iter().map(Uuid::to_string).collect();
        self.get(&format!("/v1/orders?ids={}", ids.join(","))).await
    }

    /// Asks something of an order, such as `confirm`, and waits for so many seconds (admin).
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn ask(
        &self,
        order_id: Uuid,
        what: &str,
        seconds: u32,
        body: Value,
    ) -> anyhow::Result<Answer> {
        let path = format!("/v1/orders/{order_id}/{what}?wait={seconds}");
        self.send(Method::POST, &path, &[], Some(body)).await
    }

    /// What is known about a SKU.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn inventory(&self, sku: &str) -> anyhow::Result<Answer> {
        self.get(&format!("/v1/inventory/{sku}")).await
    }

    /// Puts a product up for sale (admin).
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn put_inventory(&self, sku: &str, product: Product<'_>) -> anyhow::Result<Answer> {
        let Product {
            title,
            unit_price_minor,
            currency,
            available,
        } = product;
        let body = json!({
            "title": title, "unit_price_minor": unit_price_minor, "currency": currency, "available": available,
        });
        self.send(
            Method::PUT,
            &format!("/v1/inventory/{sku}"),
            &[],
            Some(body),
        )
        .await
    }

    /// Changes what is named of a product (admin).
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn patch_inventory(&self, sku: &str, change: Value) -> anyhow::Result<Answer> {
        let path = format!("/v1/inventory/{sku}");
        self.send(Method::PATCH, &path, &[], Some(change)).await
    }

    /// Adds to a SKU's stock, or takes from it (admin).
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn restock(
        &self,
        sku: &str,
        quantity: i64,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let key = key.map(|key| ("idempotency-key", key));
        let path = format!("/v1/inventory/{sku}/restock");
        self.send(
            Method::POST,
            &path,
            key.as_slice(),
            Some(json!({ "quantity": quantity })),
        )
        .await
    }

    /// GETs a path.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[], None).await
    }

    /// Sends a request; the admin token goes along where there is one.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.http.request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(HeaderName::try_from(*name)?, HeaderValue::from_str(value)?);
        }
        if let Some(token) = &self.admin_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("ask {path} of {}", self.address))?;
        if self.is_of_ingest {
            Answer::read_whole(&method, path, answer).await
        } else {
            Answer::of_anybody(answer).await
        }
    }

    /// Posts these very bytes as a JSON order.
    ///
    /// # Errors
    /// See [`Client::order`].
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("http://{}{path}", self.address));
        let answer = request
            .header("content-type", "application/json")
            .body(body.into())
            .send()
            .await?;
        Answer::read_whole(&Method::POST, path, answer).await
    }

    /// Writes these very bytes to a connection of their own. Returns all that comes back until
    /// the peer closes it, so send `connection: close`.
    ///
    /// # Errors
    /// When the peer does not close the connection in time.
    pub async fn raw(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .context("the peer keeps the connection open")??;
        Ok(answer)
    }
}

impl Answer {
    /// Reads what an ingest process answered to its end. Where debug assertions are on, as in the claims, it has to be
    /// what the description says.
    ///
    /// # Errors
    /// When it does not come to its end.
    ///
    /// # Panics
    /// When it is not described.
    pub async fn read_whole(
        method: &Method,
        path: &str,
        answer: reqwest::Response,
    ) -> anyhow::Result<Self> {
        let answer = Self::of_anybody(answer).await?;
        if cfg!(debug_assertions) {
            described::require(method, path, &answer);
        }
        Ok(answer)
    }

    async fn of_anybody(answer: reqwest::Response) -> anyhow::Result<Self> {
        Ok(Self {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.bytes().await?,
        })
    }

    /// The body, as JSON of any shape.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        self.read()
    }

    /// The body, as JSON of the shape asked for.
    ///
    /// # Errors
    /// When it is not JSON, or not of that shape.
    pub fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "answer {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// The order's id.
    ///
    /// # Errors
    /// When there is none.
    pub fn order_id(&self) -> anyhow::Result<Uuid> {
        let body = self.json()?;
        let id = body["order_id"]
            .as_str()
            .with_context(|| format!("no order_id in {} {body}", self.status))?;
        Ok(id.parse()?)
    }

    /// The `code` of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        Some(self.json().ok()?["code"].as_str()?.to_owned())
    }

    /// A header's value, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer, if its status is a success.
    ///
    /// # Errors
    /// When it is not; the message has the body.
    pub fn expect_success(self) -> anyhow::Result<Self> {
        let status = if self.status.is_success() {
            self.status.as_u16()
        } else {
            200
        };
        self.expect(status)
    }

    /// This answer, if it has that status.
    ///
    /// # Errors
    /// When it has another one; the message has the body.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.status.as_u16() == status,
            "expected {status}, got {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}

/// The body of `POST /v1/orders`.
#[must_use]
pub fn order(customer: &str, items: &[(&str, u32)]) -> Value {
    let items: Vec<_> = items
        .iter()
        .map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity }))
        .collect();
    json!({ "customer_id": customer, "items": items })
}
