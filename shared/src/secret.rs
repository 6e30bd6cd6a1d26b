//! Whether `ORDER_ID_SECRET` is the one that this installation's orders were named with.

use sqlx::{PgConnection, postgres::PgConnectOptions};

use crate::{
    database::{DATABASE_URL, Unusable, asked},
    id::{IdMint, OrderId},
};

/// How many of the newest orders are looked at. One whose id can be read is enough: a process with a
/// wrong secret, stopped meanwhile, may have named the others.
const NEWEST: i64 = 20;

/// Why a process does not start with this secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Polls of all orders would be answered 404, and repeats of their keys would be sold again.
    #[error(
        "ORDER_ID_SECRET cannot read the ids of the newest {0} orders: set it to the secret of the other processes; if it was changed on purpose, give the one before as ORDER_ID_SECRET_PREVIOUS"
    )]
    Foreign(usize),
    /// The database does not tell the newest orders.
    #[error("cannot read the newest orders: {0}")]
    Unusable(#[from] Unusable),
}

/// Makes sure that the ids of the newest orders can be read, if there are any.
///
/// # Errors
/// None of them can, or the database is out of reach.
pub async fn require_secret(connect: &PgConnectOptions, mint: &IdMint) -> Result<(), SecretError> {
    let newest = asked(connect, DATABASE_URL, newest).await?;
    if newest.is_empty() || newest.iter().any(|id| mint.signed(*id)) {
        Ok(())
    } else {
        Err(SecretError::Foreign(newest.len()))
    }
}

async fn newest(connection: &mut PgConnection) -> Result<Vec<OrderId>, sqlx::Error> {
    let newest = sqlx::query_scalar!(
        "select order_id from orders order by order_id desc limit $1",
        NEWEST
    )
    .fetch_all(connection)
    .await?;
    Ok(newest.into_iter().map(OrderId::trusted).collect())
}
