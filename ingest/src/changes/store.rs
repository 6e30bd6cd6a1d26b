//! All SQL of histories and of looks for what became of a payment.

use chrono::{DateTime, Utc};
use hotrow_shared::{id::OrderId, outcome::timestamp};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

/// One thing that became of an order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderChange)]
pub(super) struct Entry {
    /// The revision that it made of the order.
    #[schema(minimum = 0)]
    revision: i32,
    /// What the order was from then on.
    status: String,
    /// Why.
    #[schema(required)]
    reason: Option<String>,
    /// When.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    /// Who asked for it, as the token said; null where nobody did.
    #[schema(required)]
    actor: Option<String>,
    /// The role of who asked for it; `system` is Hotrow itself.
    role: String,
    /// The request that asked for it.
    #[schema(required)]
    request_id: Option<String>,
}

impl Entry {
    /// By which the history is paged.
    pub(super) fn revision(&self) -> i32 {
        self.revision
    }
}

/// Reads what became of an order behind a revision, by its first name. Settling comes first, and is the system's.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn history(
    pool: &PgPool,
    order_id: OrderId,
    after: i32,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as!(
        Entry,
        r#"
        select revision as "revision!", status as "status!", reason, at as "at!", actor, role as "role!", request_id
        from (
            select revision, status, reason, settled_at as at,
                   null::text as actor, 'system' as role, null::text as request_id
            from orders
            where order_id = $1
            union all
            select revision, status, reason, at, actor, role, request_id
            from order_changes
            where order_id = $1
        ) as history
        where revision > $2
        order by revision
        limit $3
        "#,
        order_id.uuid(),
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Whether a payment is listed as one that did not pay its order.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn is_unmatched(
    pool: &PgPool,
    order_id: OrderId,
    reference: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from unmatched_payments where order_id = $1 and payment_reference = $2
        ) as "exists!"
        "#,
        order_id.to_string(),
        reference,
    )
    .fetch_one(pool)
    .await
}
