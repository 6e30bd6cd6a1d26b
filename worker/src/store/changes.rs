//! Changes of settled orders: how an order stands, and what it became.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use hotrow_shared::id::OrderId;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::standing::{Standing, goods, status};

/// How these orders stand, those that are settled. To be asked behind the locks of their SKUs' rows.
pub(crate) async fn standings(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<OrderId, Standing>, StoreError> {
    // One look-up each in two indexes, in the partitions of the id's day.
    let rows = sqlx::query!(
        r#"
        select now.order_id as "order_id!", now.status as "status!", now.reason, now.revision as "revision!",
               now.customer_id as "customer_id!", now.items::text as "items!", now.total_minor, now.currency,
               now.accepted_at as "accepted_at!", now.settled_at as "settled_at!", now.updated_at as "updated_at!",
               now.expires_at, now.extend_max_at, now.payment_reference, now.restocked, now.goods
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (
            select * from orders_now
            where orders_now.order_id = asked.order_id and orders_now.alias_of is null and not orders_now.is_replayed
            limit 1
        ) as now
        "#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let mut standings = HashMap::with_capacity(rows.len());
    for row in rows {
        let id = OrderId::trusted(row.order_id);
        let items = RawValue::from_string(row.items).map_err(unreadable)?;
        let standing = Standing {
            id,
            status: status(&row.status)?,
            reason: row.reason,
            revision: row.revision,
            customer_id: row.customer_id,
            goods: goods(&items).map_err(unreadable)?,
            items,
            total_minor: row.total_minor,
            currency: row.currency,
            accepted_at: row.accepted_at,
            settled_at: row.settled_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at,
            extend_max_at: row.extend_max_at,
            payment_reference: row.payment_reference,
            restocked: row.restocked,
            taken_at: match row.goods.as_deref() {
                Some("taken") => row.updated_at,
                _ => row.settled_at,
            },
        };
        standings.insert(id, standing);
    }
    Ok(standings)
}

fn unreadable(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// What orders became, a column each: what `unnest` makes rows of.
#[derive(Debug, Default)]
pub(crate) struct ChangeRows<'a> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) revisions: Vec<i32>,
    pub(crate) statuses: Vec<&'static str>,
    pub(crate) reasons: Vec<Option<&'a str>>,
    pub(crate) goods: Vec<Option<&'static str>>,
    pub(crate) expire: Vec<Option<DateTime<Utc>>>,
    pub(crate) payment_references: Vec<Option<&'a str>>,
    pub(crate) restocked: Vec<Option<bool>>,
    pub(crate) actors: Vec<Option<&'a str>>,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) request_ids: Vec<Option<&'a str>>,
}

/// Writes what orders became, and with it what is held from now on: a hold lasts as long as its order is reserved.
pub(crate) async fn write(
    connection: &mut PgConnection,
    at: DateTime<Utc>,
    rows: &ChangeRows<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with changed as (
            select *
            from unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[],
                        $9::boolean[], $10::text[], $11::text[], $12::text[])
                as changed (order_id, revision, status, reason, goods, expires_at, payment_reference, restocked, actor,
                            role, request_id)
        ),
        -- An order may change twice in one settlement: its last state counts.
        latest as (
            select distinct on (order_id) order_id, status, expires_at from changed order by order_id, revision desc
        ),
        over as (
            delete from holds using latest where holds.order_id = latest.order_id and latest.status <> 'reserved'
        ),
        extended as (
            update holds set expires_at = latest.expires_at
            from latest
            where holds.order_id = latest.order_id and latest.status = 'reserved'
        )
        insert into order_changes (order_id, revision, status, reason, goods, expires_at, payment_reference, restocked,
                                   actor, role, request_id, at)
        select order_id, revision, status, reason, goods, expires_at, payment_reference, restocked, actor, role,
               request_id, $1
        from changed
        "#,
        at,
        &rows.ids,
        &rows.revisions,
        &rows.statuses as &[&str],
        &rows.reasons as &[Option<&str>],
        &rows.goods as &[Option<&str>],
        &rows.expire as &[Option<DateTime<Utc>>],
        &rows.payment_references as &[Option<&str>],
        &rows.restocked as &[Option<bool>],
        &rows.actors as &[Option<&str>],
        &rows.roles as &[&str],
        &rows.request_ids as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
