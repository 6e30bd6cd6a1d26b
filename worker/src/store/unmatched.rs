//! Payments that did not pay their order.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use hotrow_shared::id::OrderId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;

/// A payment, by its order and its reference.
pub(crate) type PaymentName = (OrderId, String);

/// Which of these payments were found unmatched before: they stay so.
pub(crate) async fn known(
    connection: &mut PgConnection,
    payments: &[(Uuid, &str)],
) -> Result<HashSet<PaymentName>, StoreError> {
    let (ids, references): (Vec<_>, Vec<_>) = payments.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", asked.payment_reference as "payment_reference!"
        from unnest($1::uuid[], $2::text[]) as asked (order_id, payment_reference)
        where exists (
            select from unmatched_payments as unmatched
            where unmatched.order_id = asked.order_id::text and unmatched.payment_reference = asked.payment_reference
        )
        "#,
        &ids,
        &references as &[&str],
    )
    .fetch_all(connection)
    .await?;
    let names = rows
        .into_iter()
        .map(|row| (OrderId::trusted(row.order_id), row.payment_reference));
    Ok(names.collect())
}

/// Unmatched payments, a column each.
#[derive(Debug, Default)]
pub(crate) struct UnmatchedRows<'a> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) references: Vec<&'a str>,
    pub(crate) amounts: Vec<Option<i64>>,
    pub(crate) currencies: Vec<Option<&'a str>>,
    pub(crate) whys: Vec<&'static str>,
}

/// Lists payments as unmatched, each once.
pub(crate) async fn write(
    connection: &mut PgConnection,
    at: DateTime<Utc>,
    rows: &UnmatchedRows<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into unmatched_payments (order_id, payment_reference, amount_minor, currency, why, at)
        select order_id::text, payment_reference, amount_minor, currency, why, $1
        from unnest($2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[])
            as unmatched (order_id, payment_reference, amount_minor, currency, why)
        on conflict on constraint unmatched_payments_once do nothing
        "#,
        at,
        &rows.ids,
        &rows.references as &[&str],
        &rows.amounts as &[Option<i64>],
        &rows.currencies as &[Option<&str>],
        &rows.whys as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(())
}
