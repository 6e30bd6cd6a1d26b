//! Claims about the shop window of the demo, on the whole pipeline, as a visitor uses it.

mod orders;
mod outages;
mod refusals;
mod stampede;

use hotrow_tests::{Browser, Window, issuer::SECRET, processes::ADMIN_TOKEN, window};
use serde_json::{Value, json};

use super::{CHAIR, SOON, Shop};

/// A window with a shop behind it.
struct Front {
    window: Window,
    shop: Shop,
}

impl Front {
    /// A window that sells so many chairs by these rules.
    async fn open(chairs: i64, sale: Value) -> anyhow::Result<Self> {
        let window = Window::open().await?;
        let shop = Shop::open_to(&window.origin(), chairs).await?;
        shop.rules(sale).await?;
        window.sell(window::Shop {
            // By the way that a claim can disturb.
            doors: vec![shop.gateway.address()],
            door_metrics: vec![shop.ingest.metrics_url()?],
            worker_metrics: vec![shop.worker.metrics_url()?],
            database_url: shop.books.place.database_url.clone(),
            admin_token: ADMIN_TOKEN.to_owned(),
            auth_secret: SECRET.to_owned(),
            sku: CHAIR.to_owned(),
        })?;
        Ok(Self { window, shop })
    }

    /// Opens the page, and waits until it shows the product.
    async fn enter(&self, browser: &Browser) -> anyhow::Result<()> {
        browser.open(&self.window.origin()).await?;
        product(browser, "open").await?;
        // And who one is, without which nobody buys.
        let visitor = format!("{}?.dataset.value", part("visitor"));
        browser.until(&visitor, SOON).await.map(drop)
    }

    /// The visitor of the page.
    async fn visitor(&self, browser: &Browser) -> anyhow::Result<String> {
        let visitor = format!("return {}.dataset.value", part("visitor"));
        let visitor = browser.run(&visitor, json!([])).await?;
        Ok(visitor.as_str().unwrap_or_default().to_owned())
    }
}

/// A part of the page, in its own language.
fn part(name: &str) -> String {
    format!("document.querySelector('[data-testid={name}]')")
}

/// Presses a button.
async fn press(browser: &Browser, name: &str) -> anyhow::Result<()> {
    browser.click(&format!("[data-testid={name}]")).await
}

/// Waits until a part's `data-…` has a value.
async fn shows(browser: &Browser, name: &str, what: &str, value: &str) -> anyhow::Result<()> {
    let condition = format!("{}?.dataset.{what} === '{value}'", part(name));
    browser.until(&condition, SOON).await.map(drop)
}

/// Waits until a part has the focus.
async fn has_focus(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let condition = format!("document.activeElement === {}", part(name));
    browser.until(&condition, SOON).await.map(drop)
}

/// Waits until the order stands so.
async fn order(browser: &Browser, state: &str) -> anyhow::Result<()> {
    shows(browser, "order", "state", state).await
}

/// Waits until the product stands so.
async fn product(browser: &Browser, state: &str) -> anyhow::Result<()> {
    shows(browser, "product", "state", state).await
}

/// Has the operator do something.
async fn operate(browser: &Browser, action: &str) -> anyhow::Result<()> {
    let button = format!("operator-{action}");
    let word = browser.text(&format!("[data-testid={button}]")).await?;
    press(browser, &button).await?;
    let done = format!("{word}: done.");
    browser
        .reads("[data-testid=operator-said]", &done, SOON)
        .await
        .map(drop)
}

/// What a visitor is told of the order.
async fn told(browser: &Browser) -> anyhow::Result<String> {
    browser.text("[data-testid=order]").await
}
