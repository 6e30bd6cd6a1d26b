//! Claims about many tabs of one shop in one browser, which has six connections to one host.

use super::{SOON, Shop, in_browser};

const TABS: usize = 6;
/// Each page that is seen has a stream, which leaves no connection for anything else.
const WINDOWS: usize = 6;

#[tokio::test]
async fn six_tabs_that_buy_the_same_cart_have_one_order_and_all_show_it() -> anyhow::Result<()> {
    let shop = Shop::open(9).await?;
    in_browser("tabs", &[], async |browser| {
        let page = shop.page_of("c-1");
        let mut tabs = vec![browser.tab().await?];
        while tabs.len() < TABS {
            tabs.push(browser.new_tab().await?);
        }
        for tab in &tabs {
            browser.look_into(tab).await?;
            browser.to_front().await?;
            browser.open(&page).await?;
            browser.reads("#stock", "left", SOON).await?;
        }
        for tab in &tabs {
            browser.look_into(tab).await?;
            browser.to_front().await?;
            browser.click("#buy").await?;
        }
        for tab in &tabs {
            browser.look_into(tab).await?;
            browser.to_front().await?;
            browser.reads("#status", "Reserved for you", SOON).await?;
            browser.reads("#stock", "8 left", SOON).await?;
        }
        shop.order_of("c-1").await?;
        assert_eq!(shop.keys(0).len(), 1, "six tabs, one purchase");
        shop.pay("c-1").await?;
        for tab in &tabs {
            browser.look_into(tab).await?;
            browser.to_front().await?;
            browser.reads("#status", "It is yours", SOON).await?;
        }
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn six_windows_side_by_side_follow_and_one_of_them_buys() -> anyhow::Result<()> {
    let shop = Shop::open(9).await?;
    in_browser("windows", &[], async |browser| {
        let mut windows = vec![browser.tab().await?];
        while windows.len() < WINDOWS {
            windows.push(browser.new_window().await?);
        }
        for window in &windows {
            browser.look_into(window).await?;
            browser.open(&shop.page_of("c-1")).await?;
            browser.reads("#stock", "9 left", SOON).await?;
        }
        for window in &windows {
            browser.look_into(window).await?;
            let visible = "document.visibilityState === 'visible'";
            browser.until(visible, SOON).await?;
        }
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        for window in &windows {
            browser.look_into(window).await?;
            browser.reads("#stock", "8 left", SOON).await?;
        }
        shop.order_of("c-1").await.map(drop)
    })
    .await
}
