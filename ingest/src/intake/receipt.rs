//! The answer to a purchase that is accepted.

use std::time::Duration;

use hotrow_shared::{described_order::Queued, id::OrderId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to a purchase that is accepted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "order_id": "01a1fe23-4721-808d-a41e-5192f1f4fdd2", "status": "queued",
    "status_url": "/v1/orders/01a1fe23-4721-808d-a41e-5192f1f4fdd2", "estimated_wait_ms": 40,
})))]
pub(crate) struct Receipt {
    /// The id of the order, which is its name from now on.
    order_id: OrderId,
    /// It is accepted, and not settled yet.
    status: Queued,
    /// Where the order is found.
    status_url: String,
    /// How long it will wait, in milliseconds, as far as can be told.
    #[schema(minimum = 0)]
    estimated_wait_ms: u64,
}

/// Writes a [`Receipt`]. Hundreds of thousands are written in a second, so none is built first.
pub(super) fn written(id: OrderId, status_url: &str, wait: Duration) -> String {
    let wait_ms = wait.as_millis();
    // Neither an id nor its path has a character that JSON would escape.
    format!(
        r#"{{"order_id":"{id}","status":"queued","status_url":"{status_url}","estimated_wait_ms":{wait_ms}}}"#
    )
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;

    use super::*;
    use crate::http::status_url;

    #[test]
    fn what_is_written_is_the_receipt_that_is_described() {
        let id = IdMint::new("a secret of a test", None).mint(1);
        let written = written(id, &status_url(id), Duration::from_millis(40));
        let receipt: Receipt = serde_json::from_str(&written).expect("a receipt");
        let serialised = serde_json::to_string(&receipt).expect("JSON");
        assert_eq!(serialised, written);
        assert_eq!((receipt.order_id, receipt.estimated_wait_ms), (id, 40));
    }
}
