//! What polls answer. Settled orders are passed on as they were written.

use std::time::Duration;

use hotrow_shared::{
    described_order::{AnyOrder, Queued, QueuedOrder},
    id::OrderId,
};
use utoipa::{IntoParams, ToSchema};

use super::reader::Found;
use crate::http::{problem::Problem, whole_millis};

/// Several orders.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is described and never built: see `list`")]
pub(crate) struct Orders {
    /// In the order of the ids.
    orders: Vec<AnyOrder>,
}

/// Which orders are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it is described and never built: the handler reads it by hand"
)]
pub(crate) struct IdsQuery {
    /// 1 to 100 order ids, separated by commas.
    #[param(min_items = 1, max_items = 100, style = Form, explode = false)]
    ids: Vec<OrderId>,
}

/// Strings the documents of orders together.
pub(super) fn list(ids: &[OrderId], found: Vec<Found>, wait: Duration) -> Result<Vec<u8>, Problem> {
    let mut body = br#"{"orders":["#.to_vec();
    for (at, (id, found)) in ids.iter().zip(found).enumerate() {
        if at > 0 {
            body.push(b',');
        }
        match found {
            Found::Settled(outcome) => body.extend_from_slice(&outcome.document),
            Found::Queued | Found::Replayed => body.extend_from_slice(queued(*id, wait).as_bytes()),
            Found::Dropped => {
                return Err(Problem::NotFound("one of these orders is no longer kept"));
            }
        }
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// The document of an order that waits to be settled.
pub(crate) fn queued(order_id: OrderId, wait: Duration) -> String {
    let order = QueuedOrder {
        order_id,
        status: Queued::Queued,
        estimated_wait_ms: whole_millis(wait),
    };
    serde_json::to_string(&order).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_list_is_its_documents_in_the_order_of_the_ids() {
        let id = IdMint::new("a secret of a test", None).mint(1);
        let wait = Duration::from_millis(40);
        let order: QueuedOrder = serde_json::from_str(&queued(id, wait)).expect("an order");
        assert_eq!((order.order_id, order.estimated_wait_ms), (id, 40));

        let written = list(&[id, id], vec![Found::Queued, Found::Replayed], wait);
        let written: Value = serde_json::from_slice(&written.expect("a list")).expect("JSON");
        let order = serde_json::to_value(&order).expect("JSON");
        assert_eq!(written, serde_json::json!({ "orders": [order, order] }));
    }
}
