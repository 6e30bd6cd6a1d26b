//! Claims about refusals: each looks like what it is, and says what to do.

use chrono::{SecondsFormat, TimeDelta, Utc};
use hotrow_tests::Browser;
use serde_json::{Value, json};

use super::{
    CHAIR, FAILED_LOAD, SOON, Shop,
    gateway::{Mishap, Route},
    in_browser,
};

async fn buys(browser: &Browser, text: &str) -> anyhow::Result<()> {
    browser.click("#buy").await?;
    browser.reads("#status", text, SOON).await?;
    // And the buyer can buy again.
    browser
        .until("!document.querySelector('#buy').disabled", SOON)
        .await
        .map(drop)
}

#[tokio::test]
async fn each_refusal_looks_like_what_it_is() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    in_browser("refusals", &[FAILED_LOAD], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        let is = async |state: &str| browser.reads("#stock", &format!("({state})"), SOON).await;
        is("open").await?;

        shop.rules(json!({ "paused": true })).await?;
        is("paused").await?;
        buys(browser, "stands still for a moment").await?;

        let opens_at = Utc::now() + TimeDelta::hours(1);
        let opens_at = opens_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        shop.rules(json!({ "paused": false, "opens_at": opens_at }))
            .await?;
        is("not open").await?;
        buys(browser, "The sale opens at").await?;

        let over = Utc::now() - TimeDelta::hours(1);
        let over = over.to_rfc3339_opts(SecondsFormat::Secs, true);
        shop.rules(json!({ "opens_at": null, "closes_at": over }))
            .await?;
        is("closed").await?;
        buys(browser, "The sale is over").await?;

        shop.rules(json!({ "closes_at": null, "max_per_customer": 1 }))
            .await?;
        is("open").await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        is("all held").await?;
        // Another customer, on a machine of their own, finds all of them in carts.
        browser.run("localStorage.clear()", json!([])).await?;
        browser.open(&shop.page_of("c-2")).await?;
        is("all held").await?;
        buys(browser, "All are in other carts").await?;
        shop.pay("c-1").await?;
        is("sold out").await?;
        buys(browser, "Sold out").await?;

        shop.client
            .restock(CHAIR, 5, None)
            .await?
            .expect_success()?;
        is("open").await?;
        browser.open(&shop.page_of("c-1")).await?;
        buys(browser, "Not more than").await?;
        // That is judged when an order is settled, which takes nothing.
        assert_eq!(shop.orders_of("c-1").await?.len(), 2);
        assert_eq!(shop.books.left(CHAIR).await?, 5);
        assert!(shop.orders_of("c-2").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_page_survives_a_refusal_and_a_status_that_it_does_not_know() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("new-words", &[FAILED_LOAD], async |browser| {
        shop.gateway.next(Route::Purchase, Mishap::NewRefusal, 1);
        shop.gateway.always(Route::Live, Mishap::NewStatus);
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        buys(browser, "It is not sold on Sundays.").await?;
        assert!(shop.orders_of("c-1").await?.is_empty());

        browser.click("#buy").await?;
        browser
            .reads("#status", "Your order is packaged", SOON)
            .await?;
        // It may still change, so it is followed.
        shop.pay("c-1").await?;
        browser.reads("#status", "It is yours", SOON).await?;
        assert_eq!(shop.keys(0).len(), 2, "what was refused is over");
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn when_all_purchases_stop_the_page_says_so_and_goes_on_by_itself() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("switch", &[FAILED_LOAD], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "(open)", SOON).await?;
        let turn = async |body: Value| {
            let put = shop
                .client
                .send(reqwest::Method::PUT, "/v1/sale", &[], Some(body));
            put.await?.expect(200)
        };
        let until = Utc::now() + TimeDelta::seconds(3);
        let until = until.to_rfc3339_opts(SecondsFormat::Millis, true);
        turn(json!({ "paused": true, "until": until })).await?;
        browser.reads("#stock", "(paused)", SOON).await?;
        browser.click("#buy").await?;
        browser.reads("#note", "Next try at", SOON).await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        assert_eq!(shop.keys(0).len(), 1);
        shop.order_of("c-1").await.map(drop)
    })
    .await
}
