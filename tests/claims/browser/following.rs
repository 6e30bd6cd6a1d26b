//! Claims about pages that follow stock and orders through what does not let streams pass.

use std::time::Duration;

use hotrow_tests::{Mode, wait};

use super::{
    FAILED_LOAD, SOON, Shop,
    gateway::{Mishap, Route},
    in_browser,
};

/// A purchase on a page whose streams all meet with a mishap: it is followed by long polls to its end.
async fn followed_by_polls(name: &str, mishap: Mishap) -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    let tolerated = [FAILED_LOAD, "blocked by CORS policy"];
    in_browser(name, &tolerated, async |browser| {
        shop.gateway.always(Route::Live, mishap);
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.reads("#stock", "4 left", SOON).await?;
        wait::until("a long poll", SOON, async || {
            let seen = shop.gateway.seen();
            let is_poll =
                |target: &str| target.contains("wait=") && target.contains("after_revision=1");
            seen.iter().any(|seen| is_poll(&seen.target)).then_some(())
        })
        .await?;
        shop.pay("c-1").await?;
        browser.reads("#status", "It is yours", SOON).await?;
        assert_eq!(shop.gateway.count(Route::Purchase), 1);

        // Where streams pass again, a page that is opened now has one.
        shop.gateway.always(Route::Live, None);
        browser.reload().await?;
        let (live, stock) = (
            shop.gateway.count(Route::Live),
            shop.gateway.count(Route::Stock),
        );
        shop.client
            .restock(super::CHAIR, 3, None)
            .await?
            .expect_success()?;
        browser.reads("#stock", "7 left", SOON).await?;
        assert!(shop.gateway.count(Route::Live) <= live + 1);
        assert!(shop.gateway.count(Route::Stock) <= stock + 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_streams_are_cut_again_and_again_an_order_is_followed_by_long_polls()
-> anyhow::Result<()> {
    let mishap = Mishap::CutAfter(Duration::from_millis(300));
    followed_by_polls("cut-streams", mishap).await
}

#[tokio::test]
async fn where_streams_are_held_back_an_order_is_followed_by_long_polls() -> anyhow::Result<()> {
    followed_by_polls("held-streams", Mishap::Buffer).await
}

#[tokio::test]
async fn where_streams_are_something_else_an_order_is_followed_by_long_polls() -> anyhow::Result<()>
{
    followed_by_polls("no-streams", Mishap::WrongType).await
}

#[tokio::test]
async fn where_streams_are_refused_an_order_is_followed_by_long_polls() -> anyhow::Result<()> {
    followed_by_polls("refused-streams", Mishap::Overloaded(10)).await
}

#[tokio::test]
async fn a_page_lives_through_an_outage_of_the_api() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("outage", &[FAILED_LOAD], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        shop.gateway.everywhere(Mishap::LoseRequest);
        shop.gateway.cut();
        browser.click("#buy").await?;
        browser.reads("#status", "Sending your order", SOON).await?;
        browser
            .reads("#note", "Connection lost. Next try at", SOON)
            .await?;
        assert!(shop.orders_of("c-1").await?.is_empty());
        shop.gateway.everywhere(None);
        browser.reads("#status", "Reserved for you", SOON).await?;
        assert_eq!(
            browser.text("#note").await?,
            "",
            "what is over is not shown"
        );
        browser.reads("#stock", "4 left", SOON).await?;
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_page_lives_through_an_outage_of_the_broker() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("no-broker", &[FAILED_LOAD], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        shop.broker.set(Mode::Refuse).await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Sending your order", SOON).await?;
        browser.reads("#note", "Next try at", SOON).await?;
        shop.until_asked(Route::Purchase, 2).await?;
        assert!(shop.orders_of("c-1").await?.is_empty());
        shop.broker.set(Mode::Pass).await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.reads("#stock", "4 left", SOON).await?;
        assert_eq!(shop.keys(0).len(), 1, "each try had the same key");
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_page_waits_out_a_worker_that_died() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("no-worker", &[], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        shop.worker.kill()?;
        browser.click("#buy").await?;
        browser
            .reads("#status", "You are in the queue", SOON)
            .await?;
        browser.reload().await?;
        browser
            .reads("#status", "You are in the queue", SOON)
            .await?;
        let _other = shop.worker_settings().start().await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.reads("#stock", "4 left", SOON).await?;
        assert_eq!(shop.gateway.count(Route::Purchase), 1);
        shop.order_of("c-1").await.map(drop)
    })
    .await
}
