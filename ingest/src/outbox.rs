//! The outbox: says that what ingest itself has written has an event. A worker publishes it.

use hotrow_shared::event::Cause;
use sqlx::PgConnection;

use crate::board::store::Row;

/// Whether there are events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outbox {
    pub(crate) is_on: bool,
}

impl Outbox {
    /// Takes events if they are on.
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Notes that the stock of a SKU is to be told, in the transaction of the change.
    pub(crate) async fn tell(
        self,
        connection: &mut PgConnection,
        row: &Row,
        cause: Cause,
    ) -> Result<(), sqlx::Error> {
        if !self.is_on {
            return Ok(());
        }
        sqlx::query!(
            r#"
            with changed as (
                insert into inventory_changes (sku, version, available, held, cause, at)
                values ($1, $2, $3, $4, $5, clock_timestamp())
                returning at
            )
            insert into event_outbox (at, due_at) select at, at from changed
            "#,
            row.sku,
            row.version,
            row.available,
            row.held,
            cause.as_str(),
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
