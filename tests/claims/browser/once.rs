//! Claims about purchases: whatever happens on the way, one Buy is one order.

use std::time::Duration;

use hotrow_tests::Browser;
use serde_json::json;

use super::{
    CHAIR, FAILED_LOAD, SOON, Shop,
    gateway::{Mishap, Route},
    in_browser,
};

const RELOADS: usize = 10;

#[tokio::test]
async fn a_page_of_another_origin_buys_with_a_token_and_sees_stock_and_order_move()
-> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("purchase", &[], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#title", "Chair", SOON).await?;
        browser.reads("#stock", "5 left (open)", SOON).await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.reads("#stock", "4 left (open)", SOON).await?;
        shop.pay("c-1").await?;
        browser.reads("#status", "It is yours", SOON).await?;

        // The next purchase is another one.
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.click("#cancel").await?;
        browser.reads("#status", "Cancelled", SOON).await?;
        browser.reads("#stock", "4 left (open)", SOON).await?;
        assert_eq!(shop.orders_of("c-1").await?.len(), 2);
        assert_eq!(shop.keys(0).len(), 2);
        // All of it came by streams.
        assert_eq!(shop.gateway.count(Route::Order), 0);
        shop.books.books(&[]).await.map(drop)
    })
    .await
}

/// Buys, loads the page again and again while requests of a route meet with a mishap, and counts.
async fn buy_through(
    shop: &Shop,
    browser: &Browser,
    customer: &str,
    (route, mishap): (Route, Mishap),
) -> anyhow::Result<()> {
    let sent = shop.gateway.seen().len();
    let left = shop.books.left(CHAIR).await?;
    let purchases = shop.gateway.count(Route::Purchase);
    // One for the page that buys, and two for those that come after it.
    shop.gateway.next(route, mishap, 3);
    browser.open(&shop.page_of(customer)).await?;
    browser.reads("#stock", "left", SOON).await?;
    browser.click("#buy").await?;
    shop.until_asked(Route::Purchase, purchases + 1).await?;
    for reload in 0..RELOADS {
        browser.reload().await?;
        if reload == RELOADS / 2 {
            // Half of the reloads come before, and half of them after the order is held.
            browser.reads("#status", "Reserved for you", SOON).await?;
        }
    }
    browser.reads("#status", "Reserved for you", SOON).await?;
    shop.order_of(customer).await?;
    assert_eq!(shop.keys(sent).len(), 1, "one Buy has one key");
    assert_eq!(shop.books.left(CHAIR).await?, left - 1);

    browser.click("#cancel").await?;
    browser.reads("#status", "Cancelled", SOON).await?;
    browser.reload().await?;
    browser.reads("#stock", "left", SOON).await?;
    let stored = "return Object.keys(localStorage).length";
    assert_eq!(browser.run(stored, json!([])).await?, 0);
    shop.order_of(customer).await.map(drop)
}

async fn each_is_one_order(name: &str, steps: &[(Route, Mishap)]) -> anyhow::Result<()> {
    let shop = Shop::open(20).await?;
    let tolerated = [FAILED_LOAD, "blocked by CORS policy"];
    in_browser(name, &tolerated, async |browser| {
        for (number, step) in steps.iter().enumerate() {
            println!("{step:?}");
            buy_through(&shop, browser, &format!("c-{number}"), *step).await?;
        }
        shop.books.books(&[]).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn one_buy_with_ten_reloads_and_a_lost_purchase_is_one_order() -> anyhow::Result<()> {
    let steps = [
        (Route::Purchase, Mishap::LoseRequest),
        (Route::Purchase, Mishap::LoseAnswer),
        (Route::Purchase, Mishap::CutAnswer),
        (Route::Preflight, Mishap::LoseRequest),
    ];
    each_is_one_order("lost-purchase", &steps).await
}

#[tokio::test]
async fn one_buy_with_ten_reloads_and_a_refused_purchase_is_one_order() -> anyhow::Result<()> {
    let steps = [
        (Route::Purchase, Mishap::Overloaded(1)),
        (Route::Purchase, Mishap::BadGateway),
    ];
    each_is_one_order("refused-purchase", &steps).await
}

#[tokio::test]
async fn one_buy_with_ten_reloads_and_a_lost_sight_of_the_order_is_one_order() -> anyhow::Result<()>
{
    let steps = [
        (Route::Live, Mishap::LoseRequest),
        (Route::Live, Mishap::CutAfter(Duration::from_millis(50))),
        (Route::Order, Mishap::LoseRequest),
        (Route::Order, Mishap::CutAnswer),
    ];
    each_is_one_order("lost-order", &steps).await
}
