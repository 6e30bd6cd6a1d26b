//! Payments: a template, into which an order's id and the number of the payment are written.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use uuid::Uuid;

use super::order::{PLACE, write_number};

/// The payment of an order by the shop, with places for the order's id and for a number that makes its reference unique.
pub(super) struct PaymentTemplate {
    bytes: Vec<u8>,
    id_at: usize,
    reference_at: usize,
}

impl PaymentTemplate {
    /// A payment that prefers to wait until it is settled, if `wait` is given.
    pub(super) fn new(target: SocketAddr, token: &str, wait: Option<Duration>) -> Self {
        let before = "POST /v1/orders/";
        let id = Uuid::nil();
        let prefer = wait
            .map(|wait| format!("prefer: wait={}\r\n", wait.as_secs()))
            .unwrap_or_default();
        let body = json!({ "payment_reference": format!("pi_{PLACE}") }).to_string();
        let length = body.len();
        let head = format!(
            "{before}{id}/confirm HTTP/1.1\r\nhost: {target}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{prefer}content-length: {length}\r\n\r\n"
        );
        Self {
            id_at: before.len(),
            reference_at: head.len() + body.find(PLACE).unwrap_or_default(),
            bytes: [head, body].concat().into_bytes(),
        }
    }

    /// Writes the payment of an order over what is in `request`.
    pub(super) fn write(&self, request: &mut Vec<u8>, id: Uuid, number: u64) {
        request.clear();
        request.extend_from_slice(&self.bytes);
        id.hyphenated().encode_lower(&mut request[self.id_at..]);
        write_number(&mut request[self.reference_at..], number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_names_its_order_its_reference_and_who_pays() -> anyhow::Result<()> {
        let wait = Some(Duration::from_secs(9));
        let template = PaymentTemplate::new("127.0.0.1:80".parse()?, "a-token", wait);
        let mut request = Vec::new();
        template.write(&mut request, Uuid::from_u128(0xabc), 7);
        assert_eq!(
            String::from_utf8(request)?,
            "POST /v1/orders/00000000-0000-0000-0000-000000000abc/confirm HTTP/1.1\r\nhost: 127.0.0.1:80\r\n\
             authorization: Bearer a-token\r\ncontent-type: application/json\r\nprefer: wait=9\r\n\
             content-length: 43\r\n\r\n{\"payment_reference\":\"pi_0000000000000007\"}"
        );
        Ok(())
    }
}
