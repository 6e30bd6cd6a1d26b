//! All SQL of unmatched payments. Workers write the rows, but for those of unknown orders.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    change::Payment,
    outcome::{timestamp, timestamp_if_any},
};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::outbox::Outbox;

/// A payment that did not pay its order, and what somebody did about it, if anybody did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnmatchedPayment)]
pub(super) struct Unmatched {
    /// By which the list is paged.
    pub(super) id: i64,
    /// The order as the payment named it. It need not be the id of one.
    order_id: String,
    /// The payment provider's name for the payment.
    payment_reference: String,
    /// What was paid, if that was said.
    #[schema(required)]
    amount_minor: Option<i64>,
    /// ISO 4217, if it was said.
    #[schema(required)]
    currency: Option<String>,
    /// Why it did not pay the order, such as `expired`, `cancelled` or `wrong_amount`. Words may be added.
    why: String,
    /// When it was found out.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    /// When somebody took care of it; absent until then.
    #[serde(
        serialize_with = "timestamp_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    resolved_at: Option<DateTime<Utc>>,
    /// Who did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    resolved_by: Option<String>,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
}

/// Reads up to `limit` open rows behind an id, by id.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn page(
    pool: &PgPool,
    after: i64,
    limit: i64,
) -> Result<Vec<Unmatched>, sqlx::Error> {
    sqlx::query_as!(
        Unmatched,
        r#"
        select id, order_id, payment_reference, amount_minor, currency, why, at, resolved_at, resolved_by, note
        from unmatched_payments
        where resolved_at is null and id > $1
        order by id
        limit $2
        "#,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Resolves a payment, unless somebody did before, and reads it. None if there is no such row.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn resolve(
    pool: &PgPool,
    id: i64,
    by: Option<&str>,
    note: &str,
) -> Result<Option<Unmatched>, sqlx::Error> {
    // One that is resolved is written again as it is: all three stand or none.
    sqlx::query_as!(
        Unmatched,
        r#"
        update unmatched_payments
        set resolved_at = coalesce(resolved_at, now()),
            resolved_by = case when resolved_at is null then $2 else resolved_by end,
            note = case when resolved_at is null then $3 else note end
        where id = $1
        returning id, order_id, payment_reference, amount_minor, currency, why, at, resolved_at, resolved_by, note
        "#,
        id,
        by,
        note,
    )
    .fetch_optional(pool)
    .await
}

/// Lists a payment for an order that is not known, once, and says that there is an event of it. No worker can: the name
/// leads to no partition.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn insert_of_unknown_order(
    pool: &PgPool,
    outbox: Outbox,
    order_id: &str,
    payment: &Payment,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with listed as (
            insert into unmatched_payments (order_id, payment_reference, amount_minor, currency, why)
            values ($1, $2, $3, $4, 'unknown_order')
            on conflict on constraint unmatched_payments_once do nothing
            returning at
        )
        insert into event_outbox (at, due_at) select at, at from listed where $5
        "#,
        order_id,
        payment.reference,
        payment.amount_minor,
        payment.currency,
        outbox.is_on,
    )
    .execute(pool)
    .await?;
    Ok(())
}
