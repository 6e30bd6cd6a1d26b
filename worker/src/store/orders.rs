//! The orders: what is settled already, second names, and the marks of dead letters.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use hotrow_shared::{
    id::OrderId,
    outcome::{Reason, Status},
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::StoreError;

/// What is settled already.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Which order each id names: itself, or the first order of an alias. None if that is of a day that is
    /// no longer kept.
    pub(crate) first: HashMap<OrderId, Option<OrderId>>,
    /// Failed orders that were replayed, with their revisions: their rows are to be replaced.
    pub(crate) replayed: HashMap<OrderId, i32>,
}

/// Which of these ids are settled already.
pub(crate) async fn known(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Known, StoreError> {
    // One index look-up each, in the one partition of the id's day.
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", found.first_id as "first_id", found.replayed as "replayed!",
               found.revision as "revision!"
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (
            select case
                       when orders.alias_of is null then orders.order_id
                       -- The first order may be of a day that is no longer kept.
                       else (select first.order_id from orders as first where first.order_id = orders.alias_of)
                   end as first_id,
                   orders.reason is not distinct from 'replayed' as replayed, orders.revision
            from orders
            where orders.order_id = asked.order_id
            limit 1
        ) as found
        "#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let mut known = Known::default();
    for row in rows {
        let id = OrderId::trusted(row.order_id);
        if row.replayed {
            known.replayed.insert(id, row.revision);
        } else {
            let first = row.first_id.map(OrderId::trusted);
            known.first.insert(id, first);
        }
    }
    Ok(known)
}

/// Makes ids second names of orders that are settled, this transaction's own among them.
///
/// An alias has no items and no price of its own: it moves no stock and counts for nothing. An order that
/// is gone meanwhile is an error that may be tried again, because the repeat is then decided anew.
pub(crate) async fn write_aliases(
    connection: &mut PgConnection,
    settled_at: DateTime<Utc>,
    aliases: &[(Uuid, Uuid)],
) -> Result<(), StoreError> {
    let (ids, firsts): (Vec<_>, Vec<_>) = aliases.iter().copied().unzip();
    let written = sqlx::query!(
        r#"
        insert into orders (order_id, status, reason, customer_id, items, accepted_at, settled_at, alias_of)
        select alias.order_id, orders.status, orders.reason, orders.customer_id, '[]', orders.accepted_at, $1, orders.order_id
        from unnest($2::uuid[], $3::uuid[]) as alias (order_id, first_id)
        join orders on orders.order_id = alias.first_id
        "#,
        settled_at,
        &ids,
        &firsts,
    )
    .execute(connection)
    .await?;
    if written.rows_affected() == aliases.len() as u64 {
        Ok(())
    } else {
        Err(StoreError::Vanished)
    }
}

/// Notes that an order is in the dead-letter queue, unless it is settled. Returns its revision and the time if that is
/// new: a second letter of the same failure is not.
pub(crate) async fn write_failed(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    customer: &str,
    items: &str,
    accepted_at: DateTime<Utc>,
) -> Result<Option<(i32, DateTime<Utc>)>, StoreError> {
    let failed = sqlx::query!(
        r#"
        insert into orders (order_id, status, reason, customer_id, items, accepted_at)
        values ($1, $2, $3, $4, $5::text::json, $6)
        on conflict on constraint orders_pkey do update
        set reason = excluded.reason, revision = orders.revision + 1, settled_at = excluded.settled_at
        where orders.status = 'failed' and orders.reason is distinct from excluded.reason
        returning revision, settled_at
        "#,
        id,
        Status::Failed.as_str(),
        Reason::DeadLettered.as_str(),
        customer,
        items,
        accepted_at,
    )
    .fetch_optional(executor)
    .await?;
    Ok(failed.map(|row| (row.revision, row.settled_at)))
}

/// Notes that a failed order is queued again. Its row stays until it is settled, because later names
/// of the order may point at it.
pub(crate) async fn mark_replayed(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update orders set reason = 'replayed' where order_id = $1 and status = 'failed'",
        id,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Removes the rows of replayed orders that are being settled now.
pub(crate) async fn remove_replayed(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from orders where order_id = any($1) and reason = 'replayed'",
        ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the rows that replaced those of replayed orders the revisions that follow.
pub(crate) async fn write_revisions(
    connection: &mut PgConnection,
    revisions: &[(Uuid, i32)],
) -> Result<(), StoreError> {
    let (ids, revisions): (Vec<_>, Vec<_>) = revisions.iter().copied().unzip();
    sqlx::query!(
        r#"
        update orders set revision = replaced.revision
        from unnest($1::uuid[], $2::integer[]) as replaced (order_id, revision)
        where orders.order_id = replaced.order_id
        "#,
        &ids,
        &revisions,
    )
    .execute(connection)
    .await?;
    Ok(())
}
