//! Claims about refusals in the window: each looks like what it is, and says what to do.

use anyhow::ensure;
use hotrow_tests::Browser;
use serde_json::json;

use super::{
    super::{FAILED_LOAD, in_browser, looks::look_well},
    Front, operate, order, press, product, shows, told,
};

/// Buys, and is refused: for that reason, and in words that tell it.
async fn refused(browser: &Browser, why: &str, words: &[&str]) -> anyhow::Result<()> {
    press(browser, "buy").await?;
    order(browser, "rejected").await?;
    shows(browser, "order", "why", why).await?;
    let told = told(browser).await?;
    for word in words {
        ensure!(told.contains(word), "{why}: {told}");
    }
    look_well(browser, &format!("window-{why}")).await
}

#[tokio::test]
async fn in_the_window_the_rules_of_a_sale_are_told_by_product_and_order() -> anyhow::Result<()> {
    let front = Front::open(5, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-rules", &[FAILED_LOAD], async |browser| {
        front.enter(browser).await?;
        operate(browser, "pause").await?;
        product(browser, "paused").await?;
        refused(browser, "paused", &["paused", "Buy again when"]).await?;

        operate(browser, "open_soon").await?;
        product(browser, "not_open").await?;
        refused(browser, "not_open", &["Not open yet", "Opens in"]).await?;
        // It opens by itself.
        product(browser, "open").await?;

        operate(browser, "close").await?;
        product(browser, "closed").await?;
        refused(browser, "closed", &["The sale is over"]).await?;
        assert_eq!(front.shop.keys(0).len(), 3);
        let visitor = front.visitor(browser).await?;
        assert!(front.shop.orders_of(&visitor).await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn in_the_window_what_is_left_and_allowed_is_told_by_product_and_order() -> anyhow::Result<()>
{
    let rules = json!({ "hold_seconds": 600, "max_per_customer": 1 });
    let front = Front::open(4, rules).await?;
    in_browser("window-left", &[FAILED_LOAD], async |browser| {
        front.enter(browser).await?;
        press(browser, "buy").await?;
        order(browser, "reserved").await?;
        press(browser, "pay").await?;
        order(browser, "confirmed").await?;
        refused(
            browser,
            "limit_reached",
            &["more than you may have", "may have 1"],
        )
        .await?;

        front
            .shop
            .rules(json!({ "max_per_customer": null }))
            .await?;
        operate(browser, "hold_all").await?;
        product(browser, "all_held").await?;
        refused(browser, "all_held", &["held for others", "buy again"]).await?;

        operate(browser, "restock").await?;
        product(browser, "open").await?;
        operate(browser, "empty").await?;
        // What others hold may come back.
        product(browser, "all_held").await?;
        let others = "select order_id from orders_now where status = 'reserved'";
        let held: Vec<uuid::Uuid> = sqlx::query_scalar(others)
            .fetch_all(&front.shop.books.database)
            .await?;
        for held in held {
            let payment = json!({ "payment_reference": format!("pi_{held}") });
            let paid = front.shop.client.ask(held, "confirm", 20, payment).await?;
            paid.expect(200)?;
        }
        product(browser, "sold_out").await?;
        refused(browser, "sold_out", &["Sold out", "nothing is left"]).await?;
        operate(browser, "restock").await?;
        product(browser, "open").await?;
        press(browser, "buy").await?;
        order(browser, "reserved").await?;
        front.shop.books.books(&[]).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn in_the_window_a_price_that_changed_under_the_buyers_eyes_is_asked_about()
-> anyhow::Result<()> {
    let front = Front::open(4, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-price", &[FAILED_LOAD], async |browser| {
        front.enter(browser).await?;
        operate(browser, "raise_price").await?;
        refused(
            browser,
            "price_changed",
            &["The price has changed", "50.90", "49.90"],
        )
        .await?;
        press(browser, "again").await?;
        order(browser, "reserved").await?;
        let told = told(browser).await?;
        ensure!(told.contains("50.90"), "{told}");
        Ok(())
    })
    .await
}
