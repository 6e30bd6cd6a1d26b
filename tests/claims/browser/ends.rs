//! Claims about the end of what a page does: a signal ends everything, and so does a page that is left.

use hotrow_tests::wait;
use serde_json::json;

use super::{CHAIR, SOON, Shop, in_browser, token};

/// A shop with a purchase and two loops that listen, and their ends in `ends`.
const BEGIN: &str = "
    return (async ([url, token, sku]) => {
        const { hotrow } = await import('/hotrow.js');
        const shop = hotrow({ url, token });
        const abort = new AbortController();
        const { signal } = abort;
        Object.assign(window, { abort, heard: [], ends: [] });
        const listen = async (name, states) => {
            try {
                for await (const state of states) heard.push([name, state]);
                ends.push([name, 'over']);
            } catch (error) {
                ends.push([name, String(error)]);
            }
        };
        listen('buy', shop.buy({ items: [{ sku, quantity: 1 }] }, { signal }));
        listen('live', shop.live({ skus: [sku] }, { signal }));
        listen('live too', shop.live({ skus: [sku] }, { signal }));
    })(arguments)";

#[tokio::test]
async fn a_signal_ends_loops_timers_and_connections_and_cancels_no_order() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("signal", &[], async |browser| {
        browser.open(&shop.site.empty()).await?;
        let arguments = json!([shop.gateway.url(), token("c-1"), CHAIR]);
        browser.run(BEGIN, arguments).await?;
        let is_held =
            "heard.some(([name, state]) => name === 'buy' && state.status === 'reserved')";
        browser.until(is_held, SOON).await?;
        assert!(shop.gateway.open() > 0);
        let ended = browser
            .run(
                "abort.abort();
                 return new Promise((resume) => setTimeout(resume)).then(() => ends)",
                json!([]),
            )
            .await?;
        let ended = ended.as_array().cloned().unwrap_or_default();
        assert_eq!(ended.len(), 3, "{ended:?}");
        assert!(ended.iter().all(|end| end[1] == "over"), "{ended:?}");
        no_listener_is_left(&shop).await?;
        let heard = browser.run("return heard.length", json!([])).await?;
        let asked = shop.gateway.seen().len();
        shop.pay("c-1").await?;
        assert_eq!(browser.run("return heard.length", json!([])).await?, heard);
        assert_eq!(shop.gateway.seen().len(), asked);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_page_that_is_left_leaves_no_connection() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    in_browser("left", &[], async |browser| {
        browser.open(&shop.page_of("c-1")).await?;
        browser.reads("#stock", "5 left", SOON).await?;
        browser.click("#buy").await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        browser.open(&shop.site.empty()).await?;
        no_listener_is_left(&shop).await?;
        // Back again, by the browser's history, and with its live page if it kept that.
        browser.run("history.back()", json!([])).await?;
        browser.reads("#status", "Reserved for you", SOON).await?;
        shop.pay("c-1").await?;
        browser.reads("#status", "It is yours", SOON).await?;
        shop.order_of("c-1").await.map(drop)
    })
    .await
}

async fn no_listener_is_left(shop: &Shop) -> anyhow::Result<()> {
    wait::until("the last listener to go", SOON, async || {
        let metrics = shop.ingest.metrics().await.ok()?;
        let is_left = metrics.value("hotrow_live_streams", &[]) != Some(0.0);
        (!is_left && shop.gateway.open() == 0).then_some(())
    })
    .await
}
