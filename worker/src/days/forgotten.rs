//! What goes row by row once it is old, beside the days that go as a whole.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, postgres::PgQueryResult};

/// Most rows that one statement deletes.
const ROWS_AT_ONCE: i64 = 10_000;

/// Before when things are forgotten.
pub(super) struct Forgotten {
    pub(super) orders_before: DateTime<Utc>,
    pub(super) audit_before: DateTime<Utc>,
}

impl Forgotten {
    /// Deletes what is older than every order, and what else is of no use any more.
    pub(super) async fn forget(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        // All at once: few orders change so late.
        let before = self.orders_before;
        let late = sqlx::query!("delete from dropped_changes where at < $1", before);
        late.execute(&mut *connection).await?;
        while is_full(&self.inventory_changes(connection).await?) {}
        while is_full(&self.keys(connection).await?) {}
        while is_full(&self.audit_log(connection).await?) {}
        while is_full(&idle_counts(connection).await?) {}
        Ok(())
    }

    /// What was told of the stock.
    async fn inventory_changes(
        &self,
        connection: &mut PgConnection,
    ) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            r#"
            delete from inventory_changes
            where ctid = any(array(select ctid from inventory_changes where at < $1 limit $2))
            "#,
            self.orders_before,
            ROWS_AT_ONCE,
        )
        .execute(connection)
        .await
    }

    /// The keys of restocks.
    async fn keys(&self, connection: &mut PgConnection) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            r#"
            delete from restock_keys
            where (sku, idempotency_key) in (
                select sku, idempotency_key from restock_keys where at < $1 limit $2
            )
            "#,
            self.orders_before,
            ROWS_AT_ONCE,
        )
        .execute(connection)
        .await
    }

    async fn audit_log(&self, connection: &mut PgConnection) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            r#"
            delete from audit_log
            where id in (select id from audit_log where at < $1 order by id limit $2)
            "#,
            self.audit_before,
            ROWS_AT_ONCE,
        )
        .execute(connection)
        .await
    }
}

/// What customers had of SKUs whose limit is gone or began anew, and those who have nothing: who is not there has nothing.
/// Rows that a settlement writes are left alone: this must not wait for one that waits for this.
async fn idle_counts(connection: &mut PgConnection) -> Result<PgQueryResult, sqlx::Error> {
    sqlx::query!(
        r#"
        delete from customer_goods
        where ctid = any(array(
            select goods.ctid
            from customer_goods as goods
            where goods.quantity = 0 or not exists (
                select from inventory
                where inventory.sku = goods.sku and inventory.limited_since = goods.since
            )
            limit $1
            for update skip locked
        ))
        "#,
        ROWS_AT_ONCE,
    )
    .execute(connection)
    .await
}

/// Whether there may be more.
fn is_full(deleted: &PgQueryResult) -> bool {
    deleted.rows_affected() >= ROWS_AT_ONCE.unsigned_abs()
}
