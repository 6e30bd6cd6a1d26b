//! Claims about pages and customers that may not: each is refused, and says so.

use serde_json::{Value, json};

use super::{CHAIR, FAILED_LOAD, SOON, Shop, Site, in_browser, token};

#[tokio::test]
async fn a_page_of_an_origin_that_is_not_allowed_is_refused_and_says_so() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    let stranger = Site::start().await?;
    let tolerated = [FAILED_LOAD, "blocked by CORS policy"];
    in_browser("stranger", &tolerated, async |browser| {
        let page = stranger.example(&shop.gateway.url(), CHAIR, &token("c-1"));
        browser.open(&page).await?;
        browser.click("#buy").await?;
        browser.reads("#note", "Connection lost", SOON).await?;
        let said = browser.trail().await?.errors;
        let says_so = |error: &String| {
            error.contains("blocked by CORS policy") && error.contains("/v1/orders")
        };
        assert!(said.iter().any(says_so), "{said:?}");
        assert_eq!(
            browser.text("#stock").await?,
            "",
            "nor does it read anything"
        );
        // The browser asks first, so no purchase has left it.
        assert!(shop.keys(0).is_empty());
        assert!(shop.orders_of("c-1").await?.is_empty());
        Ok(())
    })
    .await
}

/// What calls of the client end with: the code of a defect.
const CODES: &str = "
    return (async ([url, right, forged, sku, order]) => {
        const { hotrow } = await import('/hotrow.js');
        const codes = {};
        const all = async (states) => { for await (const state of states); };
        const note = async (name, begin) => {
            codes[name] = await begin().then(() => 'none', (error) => error.code ?? String(error));
        };
        const storage = { getItem: () => null, setItem() {}, removeItem() {} };
        const shop = hotrow({ url, token: right, storage });
        const liar = hotrow({ url, token: forged, storage });
        const nobody = hotrow({ url, storage });
        const skus = Array.from({ length: 21 }, (_, i) => `sku-${i}`);
        await Promise.all([
            note('21 products', async () => all(shop.live({ skus }))),
            note('a made-up order', async () => all(shop.live({ orders: ['made-up'] }))),
            note('no such product', async () => all(shop.live({ skus: ['nothing'] }))),
            note('an order of somebody else', async () => all(shop.live({ orders: [order] }))),
            note('nobody listens to an order', async () => all(nobody.live({ orders: [order] }))),
            note('nobody buys', async () => all(nobody.buy({ items: [{ sku, quantity: 1 }] }))),
            note('a forged token buys', async () => all(liar.buy({ items: [{ sku, quantity: 1 }] }))),
            note('a forged token listens', async () => all(liar.live({ skus: [sku] }))),
            note('a forged token looks', async () => liar.stock(sku)),
            note('for somebody else', async () => all(shop.buy({ items: [{ sku, quantity: 1 }], customer_id: 'c-9' }))),
            note('nothing in the cart', async () => all(shop.buy({ items: [] }))),
            note('too many', async () => all(shop.buy({ items: [{ sku, quantity: 1001 }] }))),
            note('somebody else cancels', async () => shop.cancel(order)),
        ]);
        return codes;
    })(arguments)";

#[tokio::test]
async fn what_a_page_may_not_do_is_a_clear_defect() -> anyhow::Result<()> {
    let shop = Shop::open(5).await?;
    let order = shop.client.order("c-2", &[(CHAIR, 1)]).await?;
    let order = order.expect(202)?.order_id()?;
    shop.client.settled(order, 20).await?.expect(200)?;
    in_browser("defects", &[FAILED_LOAD], async |browser| {
        browser.open(&shop.site.empty()).await?;
        let right = token("c-1");
        let forged = format!("{}x", &right[..right.len() - 2]);
        let arguments = json!([shop.gateway.url(), right, forged, CHAIR, order]);
        let codes = browser.run(CODES, arguments).await?;
        let expected: Value = json!({
            "21 products": "RangeError: watch 1 to 20 skus or orders",
            "a made-up order": "not_found",
            "no such product": "not_found",
            "an order of somebody else": "not_found",
            "nobody listens to an order": "unauthorized",
            "nobody buys": "unauthorized",
            "a forged token buys": "unauthorized",
            "a forged token listens": "unauthorized",
            "a forged token looks": "unauthorized",
            "for somebody else": "forbidden",
            "nothing in the cart": "invalid",
            "too many": "invalid",
            "somebody else cancels": "not_found",
        });
        assert_eq!(codes, expected);
        assert!(shop.orders_of("c-1").await?.is_empty());
        Ok(())
    })
    .await
}
