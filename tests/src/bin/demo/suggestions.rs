//! What a person who looks around may try: commands to copy, which work word for word.

use std::net::SocketAddr;

use hotrow_tests::processes::ADMIN_TOKEN;

use crate::goods::{SPARE, SPARE_HOLD, SPARES};

/// The whole life of an order at both ingest processes, one command after the other.
pub(crate) fn commands(one: SocketAddr, two: SocketAddr) -> String {
    let shop = format!("-H 'authorization: Bearer {ADMIN_TOKEN}'");
    format!(
        r#"
  # order a table under a key; it is held for {minutes} minutes, or until it is paid
  curl -i http://{one}/v1/orders {shop} -H 'content-type: application/json' -H 'idempotency-key: my-table' \
       -d '{{"customer_id":"me","items":[{{"sku":"{SPARE}","quantity":1}}]}}'
  # the same again at the other process is the same order; keep its id
  order=$(curl -s http://{two}/v1/orders {shop} -H 'content-type: application/json' -H 'idempotency-key: my-table' \
       -d '{{"customer_id":"me","items":[{{"sku":"{SPARE}","quantity":1}}]}}' | cut -d '"' -f 4)
  # wait until it is reserved
  curl "http://{two}/v1/orders/$order?wait=5" {shop}
  # pay it, as the shop does
  curl "http://{one}/v1/orders/$order/confirm?wait=5" {shop} \
       -H 'content-type: application/json' -d '{{"payment_reference":"my-payment"}}'
  # cancel it: the table can be sold again
  curl "http://{two}/v1/orders/$order/cancel?wait=5" {shop} \
       -H 'content-type: application/json' -d '{{"reason":"too-large"}}'
  # all that became of it
  curl "http://{one}/v1/orders/$order/changes" {shop}
  # what is left of the tables, and what is held
  curl http://{two}/v1/inventory/{SPARE}
  # pay it again, too late: 409, and the payment is listed
  curl "http://{one}/v1/orders/$order/confirm?wait=5" {shop} \
       -H 'content-type: application/json' -d '{{"payment_reference":"another-payment"}}'
  # payments that paid no order, to be given back
  curl 'http://{one}/v1/payments/unmatched?limit=3' {shop}
  # {SPARES} more of the tables
  curl http://{two}/v1/inventory/{SPARE}/restock {shop} \
       -H 'content-type: application/json' -d '{{"quantity":{SPARES}}}'
"#,
        minutes = SPARE_HOLD.as_secs() / 60,
    )
}
