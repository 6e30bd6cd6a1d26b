//! Claims about the life of an order from end to end: crowds, clocks, carts, outages, and processes that hear no news.

mod carts;
mod in_time;
mod outages;
mod rounds;
mod without_news;

use anyhow::ensure;
use hotrow_tests::{
    Client,
    client::{Answer, Product},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The product that most claims sell.
const CHAIR: &str = "chair";

/// Puts up chairs that are held for so long.
async fn chairs(client: &Client, available: i64, hold_seconds: u32) -> anyhow::Result<()> {
    let put = client.put_inventory(CHAIR, Product::chairs(available));
    put.await?.expect_success()?;
    let rules = json!({ "sale": { "hold_seconds": hold_seconds } });
    client
        .patch_inventory(CHAIR, rules)
        .await?
        .expect(200)
        .map(drop)
}

/// Orders these items, and waits until they are held. A short hold may be over again when that is told.
async fn reserve(client: &Client, items: &[(&str, u32)]) -> anyhow::Result<Uuid> {
    let id = client.order("c-1", items).await?.expect(202)?.order_id()?;
    let document = client.settled(id, 20).await?.expect(200)?.json()?;
    let is_held = ["reserved", "expired"].contains(&stands(&document).0);
    ensure!(is_held, "{document}");
    Ok(id)
}

/// Pays an order, and waits for so many seconds to hear what became of it.
async fn pay(client: &Client, id: Uuid, reference: &str, wait: u32) -> anyhow::Result<Answer> {
    let payment = json!({ "payment_reference": reference });
    client.ask(id, "confirm", wait, payment).await
}

/// Where an order stands, in the words of its document.
fn stands(document: &Value) -> (&str, i64) {
    let status = document["status"].as_str().unwrap_or_default();
    (status, document["revision"].as_i64().unwrap_or_default())
}
