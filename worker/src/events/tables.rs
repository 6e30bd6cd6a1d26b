//! The events of a span of time, made from the tables: the same, to the letter, as those that were made from memory.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use hotrow_shared::{
    broker::BrokerError,
    event::{EventType, InventoryChanged, cause, unmatched_event_id},
    id::OrderId,
    order::Sku,
    outcome::{OrderDocument, Status},
    publish::PublishError,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::sender::{Sender, type_of};
use crate::standing::status;

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

/// What happened from one moment up to another.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) since: DateTime<Utc>,
    /// This moment itself is left out.
    pub(super) until: DateTime<Utc>,
    /// Only what carries one of these times; everything without them.
    moments: Option<Vec<DateTime<Utc>>>,
}

impl Span {
    /// Everything in between.
    pub(super) fn between(since: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self {
            since,
            until,
            moments: None,
        }
    }

    /// What carries one of these times. The closer they are together, the less is read. The database counts
    /// microseconds.
    pub(super) fn moments(moments: Vec<DateTime<Utc>>) -> Self {
        Self {
            since: moments.iter().min().copied().unwrap_or_default(),
            until: moments.iter().max().copied().unwrap_or_default() + TimeDelta::microseconds(1),
            moments: Some(moments),
        }
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
        write_outcomes(connection, span, wants, sender).await?;
    }
    let of_changes = [
        EventType::OrderConfirmed,
        EventType::OrderExtended,
        EventType::OrderExpired,
        EventType::OrderCancelled,
    ];
    if of_changes.into_iter().any(wants) {
        write_changes(connection, span, wants, sender).await?;
    }
    if wants(EventType::PaymentUnmatched) {
        write_unmatched(connection, span, sender).await?;
    }
    if wants(EventType::InventoryChanged) {
        write_inventory(connection, span, sender).await?;
    }
    Ok(())
}

/// An order as it was at some revision.
struct Row {
    order_id: Uuid,
    status: String,
    revision: i32,
    reason: Option<String>,
    customer_id: String,
    items: String,
    total_minor: Option<i64>,
    currency: Option<String>,
    accepted_at: DateTime<Utc>,
    settled_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    payment_reference: Option<String>,
    restocked: Option<bool>,
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

impl Row {
    fn status(&self) -> Result<Status, sqlx::Error> {
        status(&self.status)
    }

    fn document(&self) -> Result<OrderDocument<'_, &RawValue>, sqlx::Error> {
        let items = serde_json::from_str(&self.items);
        Ok(OrderDocument {
            order_id: OrderId::trusted(self.order_id),
            alias_of: None,
            status: &self.status,
            revision: self.revision,
            reason: self.reason.as_deref(),
            customer_id: &self.customer_id,
            items: items.map_err(|error| sqlx::Error::Decode(error.into()))?,
            total_minor: self.total_minor,
            currency: self.currency.as_deref(),
            accepted_at: self.accepted_at,
            settled_at: self.settled_at,
            updated_at: self.updated_at,
            expires_at: self.expires_at,
            payment_reference: self.payment_reference.as_deref(),
            restocked: self.restocked,
        })
    }
}

/// Writes what orders were decided to be at first.
async fn write_outcomes(
    connection: &mut PgConnection,
    span: &Span,
    wants: impl Fn(EventType) -> bool,
    sender: &mut Sender,
) -> Result<(), TellError> {
    // A dead letter that is being replayed was one all the same.
    let mut rows = sqlx::query_as!(
        Row,
        r#"
        select order_id, status, revision,
               case when reason = 'replayed' then 'dead_lettered' else reason end as reason,
               customer_id, items::text as "items!", total_minor, currency, accepted_at, settled_at,
               settled_at as updated_at, expires_at, null::text as payment_reference, null::boolean as restocked
        from orders
        where settled_at >= $1 and settled_at < $2 and ($3::timestamptz[] is null or settled_at = any($3))
              and alias_of is null
        "#,
        span.since,
        span.until,
        span.moments.as_deref(),
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let status = row.status()?;
        if wants(type_of(status, false)) {
            sender.order(status, false, row.document()?).await?;
        }
    }
    Ok(())
}

/// Writes what orders became later.
async fn write_changes(
    connection: &mut PgConnection,
    span: &Span,
    wants: impl Fn(EventType) -> bool,
    sender: &mut Sender,
) -> Result<(), TellError> {
    let mut rows = sqlx::query_as!(
        Row,
        r#"
        select orders.order_id, changed.status, changed.revision, changed.reason, orders.customer_id,
               orders.items::text as "items!", orders.total_minor, orders.currency, orders.accepted_at,
               orders.settled_at, changed.at as updated_at, changed.expires_at, changed.payment_reference,
               changed.restocked
        from order_changes as changed
        cross join lateral (select * from orders where orders.order_id = changed.order_id limit 1) as orders
        where changed.at >= $1 and changed.at < $2 and ($3::timestamptz[] is null or changed.at = any($3))
        "#,
        span.since,
        span.until,
        span.moments.as_deref(),
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let status = row.status()?;
        if wants(type_of(status, true)) {
            sender.order(status, true, row.document()?).await?;
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
    /// The order as it stood then; null if there is none.
    order: Option<OrderDocument<'a, &'a RawValue>>,
}

/// Writes payments that did not pay their order.
pub(super) async fn write_unmatched(
    connection: &mut PgConnection,
    span: &Span,
    sender: &mut Sender,
) -> Result<(), TellError> {
    // A payment provider may name an order by a text that is no id. What became of the order since is another event.
    let mut rows = sqlx::query!(
        r#"
        select unmatched.order_id, unmatched.payment_reference, unmatched.amount_minor, unmatched.currency,
               unmatched.why, unmatched.at,
               orders.order_id as "id?", orders.customer_id as "customer_id?", orders.items::text as items,
               orders.total_minor, orders.currency as order_currency, orders.accepted_at as "accepted_at?",
               orders.settled_at as "settled_at?",
               coalesce(latest.revision, orders.revision) as "revision?",
               coalesce(latest.status, orders.status) as "status?",
               case
                   when latest.revision is not null then latest.reason
                   when orders.reason = 'replayed' then 'dead_lettered'
                   else orders.reason
               end as reason,
               coalesce(latest.at, orders.settled_at) as "updated_at?",
               case when latest.revision is null then orders.expires_at else latest.expires_at end as expires_at,
               latest.payment_reference as "paid_by?", latest.restocked as "restocked?"
        from unmatched_payments as unmatched
        left join lateral (
            select * from orders
            where orders.order_id = case
                      when unmatched.order_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                      then unmatched.order_id::uuid
                  end
                  and orders.settled_at <= unmatched.at
            limit 1
        ) as orders on true
        left join lateral (
            select * from order_changes
            where order_changes.order_id = orders.order_id and order_changes.at <= unmatched.at
            order by order_changes.revision desc
            limit 1
        ) as latest on true
        where unmatched.at >= $1 and unmatched.at < $2 and ($3::timestamptz[] is null or unmatched.at = any($3))
        "#,
        span.since,
        span.until,
        span.moments.as_deref(),
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let order = match (
            row.id,
            row.status,
            row.revision,
            row.customer_id,
            row.items,
            row.accepted_at,
            row.settled_at,
            row.updated_at,
        ) {
            (
                Some(order_id),
                Some(status),
                Some(revision),
                Some(customer_id),
                Some(items),
                Some(accepted_at),
                Some(settled_at),
                Some(updated_at),
            ) => Some(Row {
                order_id,
                status,
                revision,
                reason: row.reason,
                customer_id,
                items,
                total_minor: row.total_minor,
                currency: row.order_currency,
                accepted_at,
                settled_at,
                updated_at,
                expires_at: row.expires_at,
                payment_reference: row.paid_by,
                restocked: row.restocked,
            }),
            _ => None,
        };
        let data = PaymentUnmatched {
            order_id: &row.order_id,
            payment_reference: &row.payment_reference,
            amount_minor: row.amount_minor,
            currency: row.currency.as_deref(),
            why: &row.why,
            order: order.as_ref().map(Row::document).transpose()?,
        };
        let id = unmatched_event_id(&row.order_id, &row.payment_reference);
        sender
            .add(EventType::PaymentUnmatched, id, &row.order_id, row.at, data)
            .await?;
    }
    Ok(())
}

/// Writes what was told of the stock.
async fn write_inventory(
    connection: &mut PgConnection,
    span: &Span,
    sender: &mut Sender,
) -> Result<(), TellError> {
    let mut rows = sqlx::query!(
        r#"
        select sku, version, available, held, cause, at from inventory_changes
        where at >= $1 and at < $2 and ($3::timestamptz[] is null or at = any($3))
        order by at, version
        "#,
        span.since,
        span.until,
        span.moments.as_deref(),
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        // A row with a name that no order can have was not written by us.
        let Ok(sku) = Sku::try_from(row.sku.as_str()) else {
            continue;
        };
        let unknown = || sqlx::Error::Decode(format!("no cause: {}", row.cause).into());
        let cause = cause(&row.cause).ok_or_else(unknown)?;
        let changed = InventoryChanged {
            sku,
            available: row.available,
            held: row.held,
            version: row.version,
            cause,
        };
        sender.inventory(&changed, row.at).await?;
    }
    Ok(())
}
