//! One autocommit statement per request: the row is locked from the update to the commit, and no
//! round trip lies in between. The best that a design can do that answers with the outcome.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Failure, Purchase, Receipt};

const BUY: &str = "
    with taken as (
        update stock set available = available - $5
        where sku = $4 and available >= $5
        returning unit_price_minor * $5 as total_minor
    )
    insert into orders (order_id, status, customer_id, items, quantity, total_minor)
    select $1, case when total_minor is null then 'rejected' else 'confirmed' end, $2, $3::text::json, $5,
           coalesce(total_minor, 0)
    from (select (select total_minor from taken) as total_minor) as price
    returning status = 'confirmed'";

/// `POST /v1/orders`, of one item.
pub(super) fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/v1/orders", post(buy))
        .with_state(pool)
}

async fn buy(
    State(pool): State<PgPool>,
    Json(purchase): Json<Purchase>,
) -> Result<Response, Failure> {
    let [item] = purchase.items.as_slice() else {
        let refusal = "this design sells one item at a time";
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, refusal).into_response());
    };
    let order_id = Uuid::new_v4();
    let is_confirmed = sqlx::query_scalar(BUY)
        .bind(order_id)
        .bind(purchase.customer_id.as_str())
        .bind(serde_json::to_string(&purchase.items).unwrap_or_default())
        .bind(item.sku.as_str())
        .bind(i64::from(item.quantity))
        .fetch_one(&pool)
        .await?;
    let receipt = Receipt::of(order_id, is_confirmed);
    Ok((StatusCode::CREATED, Json(receipt)).into_response())
}
