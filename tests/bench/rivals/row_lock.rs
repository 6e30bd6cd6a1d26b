//! A transaction per request that locks the row, looks, and writes: what most shops run.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Failure, Purchase, Receipt};

const LOCK: &str = "select available, unit_price_minor from stock where sku = $1 for update";
const TAKE: &str = "update stock set available = available - $2 where sku = $1";
const INSERT: &str = "
    insert into orders (order_id, status, customer_id, items, quantity, total_minor)
    values ($1, $2, $3, $4::text::json, $5, $6)";

/// `POST /v1/orders`.
pub(super) fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/v1/orders", post(buy))
        .with_state(pool)
}

async fn buy(
    State(pool): State<PgPool>,
    Json(purchase): Json<Purchase>,
) -> Result<(StatusCode, Json<Receipt>), Failure> {
    let order_id = Uuid::new_v4();
    let mut items = purchase.items.as_slice().to_vec();
    // Everybody in the same sequence, or two carts wait for each other.
    items.sort_by(|one, other| one.sku.cmp(&other.sku));
    let text = serde_json::to_string(&purchase.items).unwrap_or_default();

    let mut transaction = pool.begin().await?;
    let (mut fits, mut pieces, mut total_minor) = (true, 0, 0);
    for item in &items {
        let row = sqlx::query_as(LOCK).bind(item.sku.as_str());
        let row: Option<(i64, i64)> = row.fetch_optional(&mut *transaction).await?;
        let (available, unit_price_minor) = row.unwrap_or_default();
        let quantity = i64::from(item.quantity);
        fits &= quantity <= available;
        pieces += quantity;
        total_minor += quantity * unit_price_minor;
    }
    if fits {
        for item in &items {
            let take = sqlx::query(TAKE)
                .bind(item.sku.as_str())
                .bind(i64::from(item.quantity));
            take.execute(&mut *transaction).await?;
        }
    }
    let receipt = Receipt::of(order_id, fits);
    sqlx::query(INSERT)
        .bind(order_id)
        .bind(receipt.status)
        .bind(purchase.customer_id.as_str())
        .bind(text)
        .bind(pieces)
        .bind(total_minor)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(receipt)))
}
