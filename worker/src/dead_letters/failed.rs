//! Marks orders as failed, and has that told.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    envelope::Order,
    event::{Event, EventType, order_event_id, write_to_outbox},
    outcome::{OrderDocument, Reason, Status},
};
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection};

use crate::{
    document::{accepted_at, unpriced},
    store::{StoreError, orders},
};

/// Notes that an order is in the dead-letter queue, unless it is settled. `source` is the name of the installation in
/// its events, if there are any.
///
/// What is refused may be in the order itself; then its row has no items, and without a customer only if that is what
/// is refused: nobody but the customer may read the order.
///
/// In a transaction of its own, or in the one that the connection is in, which goes on whatever is refused.
pub(super) async fn mark(
    connection: &mut PgConnection,
    order: &Order,
    source: Option<&str>,
) -> Result<(), StoreError> {
    let (customer, items) = (order.customer_id.as_str(), unpriced(&order.items));
    let mut marked = write(connection, order, customer, &items, source).await;
    for customer in [customer, ""] {
        if let Err(StoreError::Refused(_)) = marked {
            marked = write(connection, order, customer, "[]", source).await;
        }
    }
    marked
}

async fn write(
    connection: &mut PgConnection,
    order: &Order,
    customer: &str,
    items: &str,
    source: Option<&str>,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    let accepted_at = accepted_at(order);
    let id = order.id.uuid();
    let failed = orders::write_failed(&mut *transaction, id, customer, items, accepted_at).await?;
    if let (Some(source), Some((revision, at))) = (source, failed) {
        // The event itself and not only its time: a replay replaces the row that it would be made from.
        let event = event(source, order, customer, items, revision, at);
        let event = event.map_err(|error| sqlx::Error::Encode(error.into()))?;
        write_to_outbox(&mut transaction, at, &event).await?;
    }
    transaction.commit().await?;
    Ok(())
}

fn event(
    source: &str,
    order: &Order,
    customer: &str,
    items: &str,
    revision: i32,
    at: DateTime<Utc>,
) -> Result<String, serde_json::Error> {
    let document = OrderDocument {
        order_id: order.id,
        alias_of: None,
        status: Status::Failed.as_str(),
        revision,
        reason: Some(Reason::DeadLettered.as_str()),
        customer_id: customer,
        items: serde_json::from_str::<&RawValue>(items)?,
        total_minor: None,
        currency: None,
        accepted_at: accepted_at(order),
        settled_at: at,
        updated_at: at,
        expires_at: None,
        payment_reference: None,
        restocked: None,
    };
    let id = order_event_id(order.id, revision);
    let subject = order.id.to_string();
    let event = Event::new(EventType::OrderFailed, id, source, &subject, at, document);
    serde_json::to_string(&event)
}
