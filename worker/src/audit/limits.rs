//! Limits per customer: what is counted is what the customer's orders hold or have bought.

use std::time::Duration;

use sqlx::{Connection, PgConnection, error::DatabaseError};

/// How long the check may take beside a sale: it reads all orders since the first limit began, and meanwhile no old
/// version of a hot row can be pruned.
pub(super) const BESIDE_A_SALE: Duration = Duration::from_secs(2);

/// Counts of customers that do not add up, a line each. None where they cannot be checked within that time.
///
/// Of a limit that is older than the orders that are kept, customers may have more than those show.
pub(super) async fn check(
    session: &mut PgConnection,
    time_max: Duration,
) -> Result<Option<Vec<(String, String)>>, sqlx::Error> {
    let mut moment = session
        .begin_with("begin isolation level repeatable read read only")
        .await?;
    let limit = format!("set local statement_timeout = {}", time_max.as_millis());
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
        .execute(&mut *moment)
        .await?;
    let found = sqlx::query!(
        r#"
        with limited as (
            select sku, limited_since as since from inventory where limited_since is not null
        ),
        -- An order is settled a little after the day that its id names.
        kept as (
            select (min(to_date(substring(part.relname from '[0-9]{8}'), 'YYYYMMDD')) + 1)::timestamp at time zone 'UTC'
                       as since
            from pg_inherits join pg_class as part on part.oid = pg_inherits.inhrelid
            where pg_inherits.inhparent = 'orders'::regclass
        ),
        -- Orders that took goods since the first limit: none if there is none.
        since_then as (
            select customer_id, items, settled_at as taken_at
            from orders_now
            where settled_at >= (select min(since) from limited) and goods is distinct from 'taken'
              and alias_of is null and status in ('reserved', 'confirmed')
            union all
            select customer_id, items, updated_at
            from orders_now
            where order_id in (
                      select order_id from order_changes
                      where at >= (select min(since) from limited) and goods = 'taken'
                  )
              and goods = 'taken' and status in ('reserved', 'confirmed')
        ),
        owned as (
            select item.sku, since_then.customer_id, sum(item.quantity) as quantity
            from since_then
            cross join json_to_recordset(since_then.items) as item (sku text, quantity bigint)
            join limited on limited.sku = item.sku
            where since_then.taken_at >= limited.since
            group by item.sku, since_then.customer_id
        ),
        counted as (
            select sku, goods.customer_id, goods.quantity
            from customer_goods as goods join limited using (sku, since)
        )
        select sku as "sku!", customer_id as "customer_id!"
        from owned full join counted using (sku, customer_id)
        join limited using (sku)
        where coalesce(counted.quantity, 0) < coalesce(owned.quantity, 0)
           or limited.since >= (select kept.since from kept)
              and coalesce(counted.quantity, 0) > coalesce(owned.quantity, 0)
        "#,
    )
    .fetch_all(&mut *moment)
    .await;
    match found {
        Ok(found) => {
            moment.commit().await?;
            let found = found.into_iter().map(|row| (row.sku, row.customer_id));
            Ok(Some(found.collect()))
        }
        Err(error) if is_too_slow(&error) => {
            moment.rollback().await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_too_slow(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.as_deref() == Some("57014")
}
