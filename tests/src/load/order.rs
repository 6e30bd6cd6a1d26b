//! Requests: templates, into which numbers and ids are written.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use uuid::Uuid;

use super::CUSTOMER_PREFIX;
use crate::client;

/// What one order asks for.
#[derive(Debug, Clone)]
pub struct Basket(Vec<(String, u32)>);

impl Basket {
    /// One item.
    #[must_use]
    pub fn one(sku: impl Into<String>, quantity: u32) -> Self {
        Self(vec![(sku.into(), quantity)])
    }

    /// Several items, pairs of SKU and quantity.
    #[must_use]
    pub fn several(items: Vec<(String, u32)>) -> Self {
        Self(items)
    }
}

/// Which basket an order gets.
#[derive(Clone)]
pub enum Choice {
    /// One after the other.
    InTurn,
    /// The one whose index this returns for the order's number.
    By(Arc<dyn Fn(u64) -> usize + Send + Sync>),
}

impl Choice {
    /// The index of the basket for an order, one of `baskets`.
    pub(super) fn basket(&self, order: u64, baskets: usize) -> usize {
        match self {
            Self::InTurn => in_turn(order, baskets),
            Self::By(choose) => choose(order),
        }
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::InTurn => "InTurn",
            Self::By(_) => "By(…)",
        })
    }
}

/// Returns which of `count` things has its turn.
pub(super) fn in_turn(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).unwrap_or_default()
}

/// As many digits as any number has in hexadecimal, so that all requests of a template are equally long.
const DIGITS: usize = 16;
/// Stands in a template for a number; nothing else in a request looks like it.
pub(super) const PLACE: &str = "################";
/// What stands before a token.
const AUTHORIZATION: &str = "authorization: Bearer ";

/// The id of a customer of a load that has no prefix of its own for them.
#[must_use]
pub fn customer_id(number: u64) -> String {
    format!("{CUSTOMER_PREFIX}{number:0DIGITS$x}")
}

/// Returns whether each of these fits into the place of any other.
pub(super) fn are_equally_long(tokens: &[String]) -> bool {
    tokens.windows(2).all(|two| two[0].len() == two[1].len())
}

/// What the requests of a load have in common.
#[derive(Clone, Copy)]
pub(super) struct Form<'a> {
    pub customer_prefix: &'a str,
    pub key_prefix: Option<&'a str>,
    /// How long the tokens are, where there are any.
    pub token_length: Option<usize>,
}

/// A request with places for the customer's number and, where there are such, for its token and the order's key.
pub(super) struct Template {
    bytes: Vec<u8>,
    customer_at: usize,
    key_at: Option<usize>,
    token_at: Option<usize>,
}

impl Template {
    pub(super) fn new(target: SocketAddr, basket: &Basket, form: Form<'_>) -> Self {
        let Form {
            customer_prefix,
            key_prefix,
            token_length,
        } = form;
        let items: Vec<_> = basket
            .0
            .iter()
            .map(|(sku, quantity)| (sku.as_str(), *quantity))
            .collect();
        let body = client::order(&format!("{customer_prefix}{PLACE}"), &items).to_string();
        let key = key_prefix
            .map(|prefix| format!("idempotency-key: {prefix}{PLACE}\r\n"))
            .unwrap_or_default();
        let authorization = token_length
            .map(|length| format!("{AUTHORIZATION}{:x<length$}\r\n", ""))
            .unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST /v1/orders HTTP/1.1\r\nhost: {target}\r\ncontent-type: application/json\r\n{key}{authorization}content-length: {length}\r\n\r\n"
        );
        Self {
            customer_at: head.len() + body.find(PLACE).unwrap_or_default(),
            key_at: head.find(PLACE),
            token_at: token_length
                .and_then(|_| Some(head.find(AUTHORIZATION)? + AUTHORIZATION.len())),
            bytes: [head, body].concat().into_bytes(),
        }
    }

    /// Writes the request of an order over what is in `request`. `token` is as long as the template's form says.
    pub(super) fn write(
        &self,
        request: &mut Vec<u8>,
        order: u64,
        customer: u64,
        token: Option<&str>,
    ) {
        request.clear();
        request.extend_from_slice(&self.bytes);
        write_number(&mut request[self.customer_at..], customer);
        if let Some(key_at) = self.key_at {
            write_number(&mut request[key_at..], order);
        }
        if let (Some(token_at), Some(token)) = (self.token_at, token) {
            request[token_at..token_at + token.len()].copy_from_slice(token.as_bytes());
        }
    }
}

/// A read with a place for the order's id.
pub(super) struct ReadTemplate {
    bytes: Vec<u8>,
    id_at: usize,
}

impl ReadTemplate {
    /// A read that prefers to wait for the outcome, if `wait` is given.
    pub(super) fn new(target: SocketAddr, wait: Option<Duration>) -> Self {
        let before = "GET /v1/orders/";
        let id = Uuid::nil();
        let prefer = wait
            .map(|wait| format!("prefer: wait={}\r\n", wait.as_secs()))
            .unwrap_or_default();
        Self {
            id_at: before.len(),
            bytes: format!("{before}{id} HTTP/1.1\r\nhost: {target}\r\n{prefer}\r\n").into_bytes(),
        }
    }

    /// Writes the read of an order over what is in `request`.
    pub(super) fn write(&self, request: &mut Vec<u8>, id: Uuid) {
        request.clear();
        request.extend_from_slice(&self.bytes);
        id.hyphenated().encode_lower(&mut request[self.id_at..]);
    }
}

pub(super) fn write_number(place: &mut [u8], number: u64) {
    const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
    for (digit, byte) in place[..DIGITS].iter_mut().enumerate() {
        *byte = HEXADECIMAL[(number >> (4 * (DIGITS - 1 - digit)) & 0xf) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_names_its_order_and_how_long_it_waits() -> anyhow::Result<()> {
        let template = ReadTemplate::new("127.0.0.1:80".parse()?, Some(Duration::from_secs(9)));
        let mut request = Vec::new();
        template.write(&mut request, Uuid::from_u128(0xabc));
        assert_eq!(
            String::from_utf8(request)?,
            "GET /v1/orders/00000000-0000-0000-0000-000000000abc HTTP/1.1\r\nhost: 127.0.0.1:80\r\nprefer: wait=9\r\n\r\n"
        );
        Ok(())
    }

    #[test]
    fn customer_ids_are_those_of_the_requests() {
        assert_eq!(customer_id(0x1f), "c-000000000000001f");
    }

    #[test]
    fn a_request_says_who_orders_what_under_which_key_and_token() -> anyhow::Result<()> {
        let basket = Basket::several(vec![("chair".into(), 2), ("table".into(), 1)]);
        let form = Form {
            customer_prefix: CUSTOMER_PREFIX,
            key_prefix: Some("run-"),
            token_length: Some("a.b.c".len()),
        };
        let template = Template::new("127.0.0.1:80".parse()?, &basket, form);
        let mut request = Vec::new();
        template.write(&mut request, 0xabc, 7, Some("a.b.c"));
        let request = String::from_utf8(request)?;
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
        assert!(
            head.contains("idempotency-key: run-0000000000000abc"),
            "{head}"
        );
        assert!(
            head.contains("\r\nauthorization: Bearer a.b.c\r\n"),
            "{head}"
        );
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let items = [("chair", 2), ("table", 1)];
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body)?,
            client::order(&customer_id(7), &items)
        );
        Ok(())
    }
}
