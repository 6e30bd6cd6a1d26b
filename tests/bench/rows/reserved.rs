//! Reserved orders: what payments and expiry begin with.

use hotrow_tests::{Load, load::Basket};
use sqlx::Connection;
use uuid::Uuid;

use crate::{
    goods::{Goods, HOT},
    shop::{Distance, Shop, settled},
};

const CONNECTIONS: usize = 1_024;

/// Opens a shop of one product, and reserves so many orders of it.
///
/// The processes that did it are gone. Those that are measured know nothing of these orders, as after the minutes that a
/// buyer takes to pay.
pub(super) async fn reserve(goods: &Goods, orders: u64) -> anyhow::Result<(Shop, Vec<Uuid>)> {
    let shop = Shop::open(Distance::Near, goods).await?;
    let mut database = shop.database().await?;
    Goods::other().put_up(&mut database).await?;
    database.close().await?;
    let (ingest, worker) = shop.start().await?;
    let report = Load::of(Basket::one(HOT, 1), &[ingest.address()?])
        .connections(CONNECTIONS)
        .orders(orders)
        .run()
        .await?;
    settled(&worker, report.accepted.len()).await?;
    let all = usize::try_from(orders)?;
    shop.check_settled(&report, "reserved", all).await?;
    Ok((shop, report.accepted))
}
