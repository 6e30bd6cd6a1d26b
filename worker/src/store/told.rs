//! What is told by events, as the tables have it: everything of a span of time, at the revision that it had then.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use hotrow_shared::{
    event::{InventoryChanged, cause},
    id::OrderId,
    order::Sku,
    outcome::{OrderDocument, Status},
};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::standing::status;

/// Rows as they come.
pub(crate) type Rows<'c, Row> = BoxStream<'c, Result<Row, sqlx::Error>>;

/// What happened from one moment up to another.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) since: DateTime<Utc>,
    /// This moment itself is left out.
    pub(crate) until: DateTime<Utc>,
    /// Only what carries one of these times; everything without them.
    moments: Option<Vec<DateTime<Utc>>>,
}

impl Span {
    /// Everything in between.
    pub(crate) fn between(since: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self {
            since,
            until,
            moments: None,
        }
    }

    /// What carries one of these times. The closer they are together, the less is read. The database counts
    /// microseconds.
    pub(crate) fn moments(moments: Vec<DateTime<Utc>>) -> Self {
        Self {
            since: moments.iter().min().copied().unwrap_or_default(),
            until: moments.iter().max().copied().unwrap_or_default() + TimeDelta::microseconds(1),
            moments: Some(moments),
        }
    }
}

/// An order as it was at some revision.
pub(crate) struct OrderThen {
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

impl OrderThen {
    pub(crate) fn status(&self) -> Result<Status, sqlx::Error> {
        status(&self.status)
    }

    pub(crate) fn document(&self) -> Result<OrderDocument<'_, &RawValue>, sqlx::Error> {
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

/// What orders were decided to be at first.
pub(crate) fn outcomes<'c>(
    connection: &'c mut PgConnection,
    span: &'c Span,
) -> Rows<'c, OrderThen> {
    // A dead letter that is being replayed was one all the same.
    sqlx::query_as!(
        OrderThen,
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
    .fetch(connection)
}

/// What orders became later.
pub(crate) fn changes<'c>(connection: &'c mut PgConnection, span: &'c Span) -> Rows<'c, OrderThen> {
    sqlx::query_as!(
        OrderThen,
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
    .fetch(connection)
}

/// A payment that did not pay its order.
pub(crate) struct UnmatchedThen {
    pub(crate) order_id: String,
    pub(crate) payment_reference: String,
    pub(crate) amount_minor: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) why: String,
    pub(crate) at: DateTime<Utc>,
    /// The order as it stood then; none if there is none.
    pub(crate) order: Option<OrderThen>,
}

/// Payments that did not pay their order.
pub(crate) fn unmatched<'c>(
    connection: &'c mut PgConnection,
    span: &'c Span,
) -> Rows<'c, UnmatchedThen> {
    // A payment provider may name an order by a text that is no id. What became of the order since is another event.
    let rows = sqlx::query!(
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
    rows.map_ok(|row| UnmatchedThen {
        // All of these columns are null if there is no order.
        order: (|| {
            Some(OrderThen {
                order_id: row.id?,
                status: row.status?,
                revision: row.revision?,
                reason: row.reason,
                customer_id: row.customer_id?,
                items: row.items?,
                total_minor: row.total_minor,
                currency: row.order_currency,
                accepted_at: row.accepted_at?,
                settled_at: row.settled_at?,
                updated_at: row.updated_at?,
                expires_at: row.expires_at,
                payment_reference: row.paid_by,
                restocked: row.restocked,
            })
        })(),
        order_id: row.order_id,
        payment_reference: row.payment_reference,
        amount_minor: row.amount_minor,
        currency: row.currency,
        why: row.why,
        at: row.at,
    })
    .boxed()
}

/// What was told of the stock, and when.
pub(crate) fn inventory<'c>(
    connection: &'c mut PgConnection,
    span: &'c Span,
) -> Rows<'c, (InventoryChanged, DateTime<Utc>)> {
    let rows = sqlx::query!(
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
    rows.try_filter_map(async |row| {
        // A row with a name that no order can have was not written by us.
        let Ok(sku) = Sku::try_from(row.sku.as_str()) else {
            return Ok(None);
        };
        let unknown = || sqlx::Error::Decode(format!("no cause: {}", row.cause).into());
        let changed = InventoryChanged {
            sku,
            available: row.available,
            held: row.held,
            version: row.version,
            cause: cause(&row.cause).ok_or_else(unknown)?,
        };
        Ok(Some((changed, row.at)))
    })
    .boxed()
}
