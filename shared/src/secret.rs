//! Whether `ORDER_ID_SECRET` is the one that this installation's orders were named with.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::{
    database,
    id::{IdMint, OrderId},
};

/// How many of the newest orders are looked at. One whose id can be read is enough: a process with a
/// wrong secret, stopped meanwhile, may have named the others.
const NEWEST: i64 = 20;
/// How long the database may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Why a process does not start with this secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Polls of all orders would be answered 404, and repeats of their keys would be sold again.
    #[error(
        "ORDER_ID_SECRET cannot read the ids of the newest {0} orders: set it to the secret of the other processes; if it was changed on purpose, give the one before as ORDER_ID_SECRET_PREVIOUS"
    )]
    Foreign(usize),
    /// The database refused.
    #[error("cannot read the newest orders of the database")]
    Unreadable(#[from] sqlx::Error),
    /// The database does not answer.
    #[error("the database does not answer within {ANSWER_MAX:?}")]
    Silent,
}

/// Makes sure that the ids of the newest orders can be read, if there are any.
///
/// # Errors
/// None of them can, or the database is out of reach.
pub async fn require_secret(connect: &PgConnectOptions, mint: &IdMint) -> Result<(), SecretError> {
    let newest = timeout(ANSWER_MAX, newest(connect)).await;
    let newest = newest.map_err(|_| SecretError::Silent)??;
    if newest.is_empty() || newest.iter().any(|id| mint.signed(*id)) {
        Ok(())
    } else {
        Err(SecretError::Foreign(newest.len()))
    }
}

async fn newest(connect: &PgConnectOptions) -> Result<Vec<OrderId>, sqlx::Error> {
    let mut connection: PgConnection = database::options(connect, "hotrow start").connect().await?;
    let newest = sqlx::query_scalar!(
        "select order_id from orders order by order_id desc limit $1",
        NEWEST
    )
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    Ok(newest.into_iter().map(OrderId::trusted).collect())
}
