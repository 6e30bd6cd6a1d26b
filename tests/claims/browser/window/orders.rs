//! Claims about the way of an order in the window.

use serde_json::json;

use super::{
    super::{SOON, in_browser, looks::look_well},
    Front, has_focus, order, press, product, shows, told,
};

#[tokio::test]
async fn in_the_window_an_order_is_bought_once_through_reloads_and_paid() -> anyhow::Result<()> {
    let front = Front::open(5, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-paid", &[], async |browser| {
        front.enter(browser).await?;
        shows(browser, "available", "value", "5").await?;
        look_well(browser, "window-none").await?;
        press(browser, "buy").await?;
        browser.reload().await?;
        order(browser, "reserved").await?;
        let visitor = front.visitor(browser).await?;
        let id = front.shop.order_of(&visitor).await?.to_string();
        for _ in 0..3 {
            browser.reload().await?;
            order(browser, "reserved").await?;
            shows(browser, "order", "order", &id).await?;
        }
        shows(browser, "available", "value", "4").await?;
        shows(browser, "held", "value", "1").await?;
        browser.reads("[data-testid=countdown]", ":", SOON).await?;
        look_well(browser, "window-reserved").await?;
        press(browser, "pay").await?;
        order(browser, "confirmed").await?;
        has_focus(browser, "order-title").await?;
        shows(browser, "held", "value", "0").await?;
        look_well(browser, "window-confirmed").await?;
        press(browser, "done").await?;
        order(browser, "none").await?;
        assert_eq!(front.visitor(browser).await?, visitor);
        front.shop.order_of(&visitor).await?;
        front.shop.books.books(&[]).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn in_the_window_goods_come_back_from_orders_that_are_cancelled_or_not_paid()
-> anyhow::Result<()> {
    let front = Front::open(1, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-back", &[], async |browser| {
        front.enter(browser).await?;
        press(browser, "buy").await?;
        order(browser, "reserved").await?;
        product(browser, "all_held").await?;
        press(browser, "cancel").await?;
        order(browser, "cancelled").await?;
        product(browser, "open").await?;
        look_well(browser, "window-cancelled").await?;

        front.shop.rules(json!({ "hold_seconds": 6 })).await?;
        press(browser, "buy").await?;
        order(browser, "reserved").await?;
        order(browser, "expired").await?;
        product(browser, "open").await?;
        let told = told(browser).await?;
        assert!(told.contains("not paid in time"), "{told}");
        look_well(browser, "window-expired").await?;
        front.shop.books.books(&[]).await.map(drop)
    })
    .await
}
