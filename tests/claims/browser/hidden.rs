//! Claims about pages that nobody looks at. The browser's window is minimized, as a person does it, and its page frozen
//! by a command, as the browser does by itself with pages that were hidden for five minutes.

use std::time::{Duration, Instant};

use hotrow_tests::wait;
use serde_json::json;
use tokio::time::sleep;

use super::{CHAIR, CLAIM_MAX, SOON, Shop, gateway::Route, in_browser_within};

/// How fast a page has to be right again.
const RIGHT_WITHIN: Duration = Duration::from_secs(1);

async fn sleeps(name: &str, time: Duration) -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser_within(CLAIM_MAX + time, name, &[], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;

        browser.minimize().await?;
        browser
            .until("document.visibilityState === 'hidden'", SOON)
            .await?;
        wait::until("a hidden page to hang up", SOON, async || {
            (shop.gateway.open() == 0).then_some(())
        })
        .await?;
        let lifecycle = async |state: &str| {
            let state = json!({ "state": state });
            browser.tool("Page.setWebLifecycleState", state).await
        };
        lifecycle("frozen").await?;
        let asked = shop.gateway.seen().len();
        shop.pay("c-1").await?;
        shop.client
            .restock(CHAIR, -3, None)
            .await?
            .expect_success()?;
        sleep(time).await;
        assert_eq!(
            shop.gateway.seen().len(),
            asked,
            "a hidden page asks nothing"
        );

        let back = Instant::now();
        lifecycle("active").await?;
        browser.restore().await?;
        browser.reads("#status", "It is yours", SOON).await?;
        browser.reads("#stock", "1 left", SOON).await?;
        let took = back.elapsed();
        println!("right after {took:?}");
        assert!(took < RIGHT_WITHIN, "{took:?}");
        assert_eq!(shop.gateway.count(Route::Purchase), 1);
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_page_that_was_hidden_is_right_within_a_second_without_a_second_purchase()
-> anyhow::Result<()> {
    sleeps("hidden", Duration::from_secs(2)).await
}

#[tokio::test]
#[ignore = "sleeps for five minutes"]
async fn a_page_that_slept_for_five_minutes_is_right_within_a_second_without_a_second_purchase()
-> anyhow::Result<()> {
    sleeps("hidden-long", Duration::from_mins(5)).await
}
