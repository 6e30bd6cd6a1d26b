//! The outbox: settlements whose events are not out yet, and what is told of the stock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hotrow_shared::event::{Cause, InventoryChanged};
use sqlx::{PgConnection, PgExecutor};

use super::StoreError;

/// How long the events of a settlement are for the worker that committed it. Then anybody may publish them.
pub(crate) const OWN_FOR: Duration = Duration::from_secs(5);

/// Notes that a settlement has events, and what it tells of the stock. Returns the row to remove when they are out.
pub(crate) async fn write(
    connection: &mut PgConnection,
    at: DateTime<Utc>,
    inventory: &[InventoryChanged],
) -> Result<i64, StoreError> {
    let skus: Vec<_> = inventory.iter().map(|it| it.sku.as_str()).collect();
    let versions: Vec<_> = inventory.iter().map(|it| it.version).collect();
    let available: Vec<_> = inventory.iter().map(|it| it.available).collect();
    let held: Vec<_> = inventory.iter().map(|it| it.held).collect();
    let causes: Vec<_> = inventory.iter().map(|it| Cause::as_str(it.cause)).collect();
    let id = sqlx::query_scalar!(
        r#"
        with changed as (
            insert into inventory_changes (sku, version, available, held, cause, at)
            select sku, version, available, held, cause, $1
            from unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
                as changed (sku, version, available, held, cause)
        )
        insert into event_outbox (at, due_at) values ($1, clock_timestamp() + make_interval(secs => $2)) returning id
        "#,
        at,
        OWN_FOR.as_secs_f64(),
        &skus as &[&str],
        &versions,
        &available,
        &held,
        &causes as &[&str],
    )
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// Removes rows whose events are out.
pub(crate) async fn remove(executor: impl PgExecutor<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from event_outbox where id = any($1)", ids)
        .execute(executor)
        .await?;
    Ok(())
}

/// Leaves a row alone for a minute: something is wrong with it, and the others must not wait for it.
pub(crate) async fn postpone(connection: &mut PgConnection, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update event_outbox set due_at = clock_timestamp() + interval '1 minute' where id = $1",
        id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what has waited for an hour, where nobody is told. Returns how many rows there were, of at most 10,000.
pub(crate) async fn clear(executor: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let cleared = sqlx::query!(
        r#"
        delete from event_outbox
        where id in (select id from event_outbox where at < now() - interval '1 hour' order by id limit 10000)
        "#
    )
    .execute(executor);
    Ok(cleared.await?.rows_affected())
}

/// A row of the outbox.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: i64,
    /// The time that everything carries which its events tell.
    pub(crate) at: DateTime<Utc>,
    /// The event itself, where no table has it.
    pub(crate) event: Option<String>,
}

/// The rows that have waited longest of those that anybody may publish.
pub(crate) async fn due(
    connection: &mut PgConnection,
    rows_max: i64,
) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        select id, at, event::text from event_outbox
        where due_at <= clock_timestamp()
        order by at, id
        limit $1
        "#,
        rows_max
    )
    .fetch_all(connection)
    .await
}

/// How much waits.
pub(crate) struct Backlog {
    pub(crate) rows: i64,
    /// How long the oldest row has waited; 0 if there is none.
    pub(crate) oldest_seconds: f64,
}

/// Counts what waits, as far as it has to be counted.
pub(crate) async fn backlog(connection: &mut PgConnection) -> Result<Backlog, sqlx::Error> {
    sqlx::query_as!(
        Backlog,
        r#"
        select count(*) as "rows!",
               coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::float8 as "oldest_seconds!"
        from (select at from event_outbox order by id limit 1000000) as waiting
        "#
    )
    .fetch_one(connection)
    .await
}
