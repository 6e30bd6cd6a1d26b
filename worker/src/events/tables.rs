//! The events of a span of time, made from the tables: the same, to the letter, as those that were made from memory.

use futures_util::TryStreamExt;
use hotrow_shared::{
    broker::BrokerError,
    event::{EventType, unmatched_event_id},
    outcome::OrderDocument,
    publish::PublishError,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::sender::Sender;
use crate::{
    store::told::{self, OrderThen, Rows, Span},
    telling::type_of,
};

/// Why events were not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// They cannot be read.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// They cannot be published.
    #[error("the broker: {0}")]
    Publish(#[from] PublishError),
}

impl TellError {
    /// Whether it is about what was told, and not about a server: the same again would end the same way.
    pub(super) fn is_about_the_row(&self) -> bool {
        matches!(
            self,
            Self::Database(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. })
                // A queue of somebody else refuses it, although the stream has it.
                | Self::Publish(PublishError::Unknown(BrokerError::NotConfirmed))
        )
    }
}

/// Writes all events of a span that are wanted.
pub(super) async fn write(
    connection: &mut PgConnection,
    span: &Span,
    wants: impl Fn(EventType) -> bool + Copy,
    sender: &mut Sender,
) -> Result<(), TellError> {
    let of_orders = [
        EventType::OrderReserved,
        EventType::OrderConfirmed,
        EventType::OrderRejected,
        EventType::OrderFailed,
    ];
    if of_orders.into_iter().any(wants) {
        write_orders(told::outcomes(connection, span), false, wants, sender).await?;
    }
    let of_changes = [
        EventType::OrderConfirmed,
        EventType::OrderExtended,
        EventType::OrderExpired,
        EventType::OrderCancelled,
    ];
    if of_changes.into_iter().any(wants) {
        write_orders(told::changes(connection, span), true, wants, sender).await?;
    }
    if wants(EventType::PaymentUnmatched) {
        write_unmatched(connection, span, sender).await?;
    }
    if wants(EventType::InventoryChanged) {
        let mut changed = told::inventory(connection, span);
        while let Some((changed, at)) = changed.try_next().await? {
            sender.inventory(&changed, at).await?;
        }
    }
    Ok(())
}

/// Writes what became of orders, at first or later.
async fn write_orders(
    mut orders: Rows<'_, OrderThen>,
    is_change: bool,
    wants: impl Fn(EventType) -> bool,
    sender: &mut Sender,
) -> Result<(), TellError> {
    while let Some(order) = orders.try_next().await? {
        let status = order.status()?;
        if wants(type_of(status, is_change)) {
            sender.order(status, is_change, order.document()?).await?;
        }
    }
    Ok(())
}

/// The data of `payment.unmatched`.
#[derive(Serialize)]
struct PaymentUnmatched<'a> {
    order_id: &'a str,
    payment_reference: &'a str,
    amount_minor: Option<i64>,
    currency: Option<&'a str>,
    why: &'a str,
    order: Option<OrderDocument<'a, &'a RawValue>>,
}

/// Writes payments that did not pay their order.
pub(super) async fn write_unmatched(
    connection: &mut PgConnection,
    span: &Span,
    sender: &mut Sender,
) -> Result<(), TellError> {
    let mut payments = told::unmatched(connection, span);
    while let Some(payment) = payments.try_next().await? {
        let (order_id, reference) = (&payment.order_id, &payment.payment_reference);
        let data = PaymentUnmatched {
            order_id,
            payment_reference: reference,
            amount_minor: payment.amount_minor,
            currency: payment.currency.as_deref(),
            why: &payment.why,
            order: payment
                .order
                .as_ref()
                .map(OrderThen::document)
                .transpose()?,
        };
        let id = unmatched_event_id(order_id, reference);
        sender
            .add(EventType::PaymentUnmatched, id, order_id, payment.at, data)
            .await?;
    }
    Ok(())
}
