//! The one door of the third act. It checks tokens, and believes the proxy in front of it about addresses, so that
//! everybody here can come from an address of its own, or from many.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use hotrow_tests::{Client, Issuer, client::Answer};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::tally::Tally;
use crate::goods::TICKET;

/// What the door knows tokens by.
pub(super) const AUTH_SECRET: &str = "a-secret-for-tokens-of-the-demo-of-more-than-32-bytes";

/// The first address of the network for measurements (RFC 2544), which has 131,072 of them.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// How long a look at an order waits for its outcome, in seconds.
const WAIT: u32 = 10;

pub(super) struct Door {
    client: Client,
    issuer: Issuer,
    addresses: AtomicU32,
    pub(super) tally: Tally,
}

/// Who stands in front of the door, and where from.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The value of the header `Authorization`.
    authorization: String,
    address: String,
}

/// What the door said to a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Accepted(Uuid),
    /// Not now, but maybe after this time.
    Later(Duration),
    No,
}

impl Door {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            issuer: Issuer::secret(AUTH_SECRET.as_bytes()),
            addresses: AtomicU32::new(1),
            tally: Tally::default(),
        }
    }

    /// A customer with a token, at an address of its own.
    pub(super) fn caller(&self, customer: &str) -> Caller {
        let token = self.issuer.token(customer, "customer");
        Caller {
            authorization: format!("Bearer {token}"),
            address: self.address(),
        }
    }

    /// The same customer at another address.
    pub(super) fn elsewhere(&self, caller: &Caller) -> Caller {
        Caller {
            address: self.address(),
            ..caller.clone()
        }
    }

    /// An address that nobody has had.
    fn address(&self) -> String {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::from(u32::from(FIRST_ADDRESS) + number).to_string()
    }

    /// Buys tickets, for the customer of the token or for the one that is named, and counts what the door says.
    ///
    /// # Errors
    /// When it says nothing, or what the contract does not have.
    pub(super) async fn buy(
        &self,
        caller: &Caller,
        named: Option<&str>,
        quantity: i64,
    ) -> anyhow::Result<Said> {
        let mut body = json!({ "items": [{ "sku": TICKET, "quantity": quantity }] });
        if let Some(named) = named {
            body["customer_id"] = json!(named);
        }
        let headers = caller.headers();
        let asked = self
            .client
            .send(Method::POST, "/v1/orders", &headers, Some(body));
        let answer = asked.await?;
        if answer.status == StatusCode::ACCEPTED {
            let id = answer.order_id()?;
            self.tally.accept(id);
            return Ok(Said::Accepted(id));
        }
        let code = answer.code();
        let code = code.with_context(|| format!("a refusal without a code: {answer:?}"))?;
        self.tally.refuse(&code, limit(&answer));
        let later = retry_after(&answer);
        ensure!(
            code != "not_open" || later.is_some(),
            "{code} does not say when to come back"
        );
        Ok(later.map_or(Said::No, Said::Later))
    }

    /// Waits for what settling makes of an accepted order, and counts it.
    ///
    /// # Errors
    /// When the order is not shown to its customer.
    pub(super) async fn await_outcome(&self, caller: &Caller, id: Uuid) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Order {
            status: String,
            reason: Option<String>,
        }
        let path = format!("/v1/orders/{id}?wait={WAIT}");
        let headers = caller.headers();
        loop {
            let answer = self.client.send(Method::GET, &path, &headers, None).await?;
            let Order { status, reason } = answer.expect(200)?.read()?;
            if status != "queued" {
                self.tally.settle(reason.unwrap_or(status));
                return Ok(());
            }
        }
    }
}

impl Caller {
    fn headers(&self) -> [(&str, &str); 2] {
        [
            ("authorization", &self.authorization),
            ("x-forwarded-for", &self.address),
        ]
    }
}

/// The name of the rate limit that was reached, if it was one.
fn limit(answer: &Answer) -> Option<&str> {
    answer.header("ratelimit-policy")?.split('"').nth(1)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.header("retry-after")?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
