//! Claims about pages in a real browser: the client of front ends, on a page of another origin than the API.

mod gateway;
mod site;

mod ends;
mod following;
mod hidden;
mod looks;
mod once;
mod origins;
mod refusals;
mod tabs;
mod window;

use std::{
    fs,
    panic::{AssertUnwindSafe, resume_unwind},
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::FutureExt;
use hotrow_tests::{
    Browser, Client, Issuer, Process, Proxy, Settings, client::Product, issuer::SECRET, wait,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use self::{
    gateway::{Gateway, Route},
    site::Site,
};
use crate::worker;

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// No claim takes longer, unless it says so.
const CLAIM_MAX: Duration = Duration::from_secs(90);
/// What most claims sell.
const CHAIR: &str = "chair";
/// What the browser itself says of requests that fail, which pages cannot keep it from.
const FAILED_LOAD: &str = "Failed to load resource";

/// A shop in the web: pages of one origin, the API of another, and what stands between a customer and both.
struct Shop {
    gateway: Gateway,
    site: Site,
    client: Client,
    /// What stands between the API and its broker.
    broker: Proxy,
    ingest: Process,
    worker: Process,
    books: worker::shop::Shop,
}

impl Shop {
    /// A shop that sells so many chairs, each held for ten minutes until it is paid.
    async fn open(chairs: i64) -> anyhow::Result<Self> {
        let site = Site::start().await?;
        let origin = site.origin().to_owned();
        Self::at(site, &origin, chairs).await
    }

    /// The same for pages of an origin that somebody else serves.
    async fn open_to(origin: &str, chairs: i64) -> anyhow::Result<Self> {
        Self::at(Site::start().await?, origin, chairs).await
    }

    async fn at(site: Site, origin: &str, chairs: i64) -> anyhow::Result<Self> {
        let books = worker::shop::Shop::open(2).await?;
        let broker = Proxy::in_front_of(&books.place.amqp_url).await?;
        let ingest = books
            .ingest()
            .set("AMQP_URL", broker.url(&books.place.amqp_url)?)
            .set("AUTH_SECRET", SECRET)
            .set("CORS_ORIGINS", origin);
        let worker = worker_of(&books);
        let (ingest, worker) = tokio::try_join!(ingest.start(), worker.start())?;
        let client = ingest.client()?;
        let put = client.put_inventory(CHAIR, Product::chairs(chairs));
        put.await?.expect_success()?;
        let shop = Self {
            gateway: Gateway::in_front_of(ingest.address()?).await?,
            site,
            client,
            broker,
            ingest,
            worker,
            books,
        };
        shop.rules(json!({ "hold_seconds": 600 })).await?;
        Ok(shop)
    }

    /// A worker beside the one that there is, or after it.
    fn worker_settings(&self) -> Settings {
        worker_of(&self.books)
    }

    /// Changes the rules of the chairs' sale.
    async fn rules(&self, sale: Value) -> anyhow::Result<()> {
        let change = self.client.patch_inventory(CHAIR, json!({ "sale": sale }));
        change.await?.expect(200).map(drop)
    }

    /// The page on which a customer buys a chair.
    fn page_of(&self, customer: &str) -> String {
        let api = self.gateway.url();
        self.site.example(&api, CHAIR, &token(customer))
    }

    /// The ids of a customer's orders.
    async fn orders_of(&self, customer: &str) -> anyhow::Result<Vec<uuid::Uuid>> {
        let orders =
            "select order_id from orders where customer_id = $1 and alias_of is null order by 1";
        let orders = sqlx::query_scalar(orders).bind(customer);
        Ok(orders.fetch_all(&self.books.database).await?)
    }

    /// The one order of a customer.
    async fn order_of(&self, customer: &str) -> anyhow::Result<uuid::Uuid> {
        let orders = self.orders_of(customer).await?;
        ensure!(orders.len() == 1, "{customer} has {} orders", orders.len());
        Ok(orders[0])
    }

    /// Pays the one order of a customer, and waits until that is settled.
    async fn pay(&self, customer: &str) -> anyhow::Result<()> {
        let order = self.order_of(customer).await?;
        let payment = json!({ "payment_reference": format!("pi_{customer}") });
        let paid = self.client.ask(order, "confirm", 20, payment).await?;
        paid.expect(200).map(drop)
    }

    /// The keys of the purchases that came by from the `since`th request on.
    fn keys(&self, since: usize) -> std::collections::BTreeSet<String> {
        let seen = self.gateway.seen();
        let seen = seen.into_iter().skip(since);
        seen.filter(|seen| seen.route == Route::Purchase)
            .filter_map(|seen| seen.key)
            .collect()
    }

    /// Waits until so many requests of a route have come by.
    async fn until_asked(&self, route: Route, count: usize) -> anyhow::Result<()> {
        let what = format!("{count} requests of {route:?}");
        wait::until(&what, SOON, async || {
            (self.gateway.count(route) >= count).then_some(())
        })
        .await
    }
}

fn worker_of(books: &worker::shop::Shop) -> Settings {
    books.worker().set("HOLD_GRACE", "1s")
}

/// A customer's token.
fn token(customer: &str) -> String {
    Issuer::secret(SECRET.as_bytes()).token(customer, "customer")
}

/// Has a claim look at pages in a browser. In the end, however it comes, a picture is kept in `target/browser`; nothing
/// may have been asked of other machines, and nothing may stand in the console as an error but what the claim
/// tolerates: errors with one of these texts.
async fn in_browser(
    name: &str,
    tolerated: &[&str],
    claim: impl AsyncFnOnce(&Browser) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    in_browser_within(CLAIM_MAX, name, tolerated, claim).await
}

/// The same for a claim that takes longer.
async fn in_browser_within(
    within: Duration,
    name: &str,
    tolerated: &[&str],
    claim: impl AsyncFnOnce(&Browser) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let browser = Browser::start().await?;
    let claimed = AssertUnwindSafe(timeout(within, claim(&browser)))
        .catch_unwind()
        .await;
    let kept = keep_picture(&browser, name).await;
    let trail = browser.trail().await;
    // A failed claim is the news, and not what came after it.
    let closed = browser.close().await;
    match claimed {
        Ok(claimed) => {
            claimed.with_context(|| format!("{name} took more than {within:?}"))??;
        }
        Err(panic) => resume_unwind(panic),
    }
    closed.and(kept)?;
    let trail = trail?;
    ensure!(trail.foreign.is_empty(), "{:?}", trail.foreign);
    let is_tolerated = |error: &&String| !tolerated.iter().any(|it| error.contains(it));
    let errors: Vec<_> = trail.errors.iter().filter(is_tolerated).collect();
    ensure!(errors.is_empty(), "the console says {errors:#?}");
    Ok(())
}

async fn keep_picture(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let picture = browser.screenshot().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("{name}.png")), picture)?)
}
