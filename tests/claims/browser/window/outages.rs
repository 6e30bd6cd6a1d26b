//! Claims about the window while something behind it is away.

use serde_json::json;

use super::{
    super::{
        FAILED_LOAD, SOON,
        gateway::{Mishap, Route},
        in_browser,
        looks::look_well,
    },
    Front, operate, order, press, shows,
};

#[tokio::test]
async fn the_window_lives_through_an_outage_of_the_api_and_sells_when_it_is_back()
-> anyhow::Result<()> {
    let front = Front::open(5, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-outage", &[FAILED_LOAD], async |browser| {
        front.enter(browser).await?;
        let gateway = &front.shop.gateway;
        gateway.everywhere(Mishap::LoseRequest);
        gateway.cut();
        shows(browser, "live", "state", "interrupted").await?;
        press(browser, "buy").await?;
        shows(browser, "order", "problem", "connection_lost").await?;
        let obstacle = browser.text("[data-testid=obstacle]").await?;
        assert!(obstacle.contains("sent again by itself"), "{obstacle}");
        look_well(browser, "window-outage").await?;
        browser.reload().await?;
        order(browser, "sending").await?;

        gateway.everywhere(None);
        order(browser, "reserved").await?;
        shows(browser, "live", "state", "live").await?;
        shows(browser, "available", "value", "4").await?;
        let visitor = front.visitor(browser).await?;
        front.shop.order_of(&visitor).await?;
        assert_eq!(front.shop.keys(0).len(), 1);
        assert_eq!(gateway.count(Route::Cancel), 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn in_the_window_a_stop_of_all_sales_is_waited_out() -> anyhow::Result<()> {
    let front = Front::open(5, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-stopped", &[FAILED_LOAD], async |browser| {
        front.enter(browser).await?;
        operate(browser, "stop_all").await?;
        super::product(browser, "paused").await?;
        press(browser, "buy").await?;
        shows(browser, "order", "problem", "paused").await?;
        look_well(browser, "window-stopped").await?;
        press(browser, "give-up").await?;
        order(browser, "none").await?;
        press(browser, "buy").await?;
        shows(browser, "order", "problem", "paused").await?;
        operate(browser, "go_on").await?;
        order(browser, "reserved").await?;
        browser.reads("[data-testid=countdown]", ":", SOON).await?;
        let visitor = front.visitor(browser).await?;
        front.shop.order_of(&visitor).await.map(drop)
    })
    .await
}
