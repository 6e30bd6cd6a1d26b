//! One stampede from the first buyer to the last number.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    End, Shown,
    books::{Compared, Sold, Totals},
    figures::{Counted, Point},
};
use crate::{
    Client, Issuer, Load,
    client::Product,
    law::Verdict,
    load::{Basket, Choice, Report, customer_id},
    window::Shop,
};

/// All buyers come within this time, most of them early.
const ARRIVAL: Duration = Duration::from_secs(8);
const CONNECTIONS: usize = 128;
/// How often the processes are asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// What was accepted is settled within this time, and what was settled is counted.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A stampede of a busy machine is looked at for so long, and then it failed.
const LOOKS_MAX: u64 = 600;
/// The product's price, in cents.
const PRICE: i64 = 4_900;

pub(super) struct Plan {
    shop: Shop,
    sku: String,
    buyers: u64,
    orders: u64,
    put_up: i64,
    pieces_each: u64,
}

/// What processes and database had counted when it began.
struct Before {
    counted: Counted,
    database: Totals,
}

impl Plan {
    pub(super) fn new(shop: Shop, shown: &Shown) -> Self {
        Self {
            shop,
            // Each has its own, so that it begins with nothing sold and nobody at the limit.
            sku: format!("stampede-{}", shown.number),
            buyers: shown.buyers,
            orders: shown.orders,
            put_up: shown.put_up.cast_signed(),
            pieces_each: shown.pieces_each,
        }
    }

    /// Plays it, and tells each point of the way.
    ///
    /// # Errors
    /// When a process or a server does not answer, or accepted orders are not settled.
    pub(super) async fn play(self, mut tell: impl FnMut(Point)) -> anyhow::Result<End> {
        let administrator = Client::new(self.shop.doors[0])?.admin(&self.shop.admin_token);
        let mut database = PgConnection::connect(&self.shop.database_url).await?;
        self.put_up(&administrator).await?;
        let before = self.before(&mut database).await?;

        let began = Instant::now();
        let load = self.load();
        let running = load.start()?;
        let mut finish = std::pin::pin!(running.finish());
        let mut report: Option<Report> = None;
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answered_at = None;
        for _ in 0..LOOKS_MAX {
            tokio::select! {
                finished = &mut finish, if report.is_none() => {
                    report = Some(finished?);
                    answered_at = Some(Instant::now());
                    continue;
                }
                _ = looks.tick() => {}
            }
            let (counted, left) =
                tokio::try_join!(Counted::read(&self.shop), self.left(&administrator))?;
            tell(point(began, &before, &counted, left)?);
            let Some(report) = &report else { continue };
            let says = Totals::read(&mut database).await?;
            let all_settled =
                says.settled - before.database.settled >= i64::try_from(report.accepted.len())?;
            let is_late = answered_at.is_some_and(|at| at.elapsed() > SETTLED_WITHIN);
            // What is counted follows the commit.
            if is_late
                || (all_settled
                    && counted.totals.since(&before.counted.totals) == says.since(&before.database))
            {
                return self
                    .end(&mut database, &before, &counted, says, report)
                    .await;
            }
        }
        anyhow::bail!("it takes too long")
    }

    async fn put_up(&self, administrator: &Client) -> anyhow::Result<()> {
        let product = Product {
            title: "Ticket",
            unit_price_minor: PRICE,
            currency: "EUR",
            available: self.put_up,
        };
        let put = administrator.put_inventory(&self.sku, product);
        put.await?.expect_success()?;
        let rules = json!({ "sale": { "max_per_customer": self.pieces_each } });
        let patched = administrator.patch_inventory(&self.sku, rules);
        patched.await?.expect_success().map(drop)
    }

    /// Somebody may buy in the first panel meanwhile, and a commit is counted a moment later: both sides are read when
    /// they agree, if they ever do.
    async fn before(&self, database: &mut PgConnection) -> anyhow::Result<Before> {
        let mut looks = interval(LOOK_INTERVAL);
        let mut looked = 0;
        loop {
            looks.tick().await;
            let counted = Counted::read(&self.shop).await?;
            let database = Totals::read(database).await?;
            looked += 1;
            // A process that was started again has forgotten what it counted.
            if counted.totals == database || looked == 10 {
                return Ok(Before { counted, database });
            }
        }
    }

    fn load(&self) -> Load {
        let issuer = Issuer::secret(self.shop.auth_secret.as_bytes());
        let token = |number| issuer.token(&customer_id(number), "customer");
        let seconds = ARRIVAL.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let per_second = self.orders as f64 / seconds;
        let baskets = [1, 2, 1].map(|pieces| Basket::one(&self.sku, pieces));
        Load::of(Basket::one(&self.sku, 1), &self.shop.doors)
            .baskets(baskets.to_vec(), Choice::InTurn)
            .tokens((0..self.buyers).map(token).collect())
            .connections(CONNECTIONS)
            // A little longer than needed: how many come within a time is left to chance.
            .lasting(Duration::ZERO, ARRIVAL.mul_f64(1.1))
            .per_second(per_second)
            .most_early()
            .orders(self.orders)
    }

    async fn left(&self, administrator: &Client) -> anyhow::Result<u64> {
        let product = administrator.inventory(&self.sku).await?.expect(200)?;
        let left = product.json()?["available"].as_u64();
        left.context("the product does not say what is left")
    }

    async fn end(
        &self,
        database: &mut PgConnection,
        before: &Before,
        counted: &Counted,
        says: Totals,
        report: &Report,
    ) -> anyhow::Result<End> {
        let sold = Sold::read(database, &self.sku).await?;
        let verdict = Verdict::read(database, &report.accepted).await?;
        let counted = counted.totals.since(&before.counted.totals);
        let mut compared = Compared::all(&counted, &says.since(&before.database));
        compared.push(Compared::of(
            "sold_and_left",
            self.put_up,
            sold.pieces + sold.left,
        ));
        let is_within = sold.most_per_customer <= self.pieces_each.cast_signed();
        let is_right = compared.iter().all(Compared::is_equal) && verdict.holds() && is_within;
        #[expect(clippy::cast_precision_loss, reason = "counts for people to read")]
        let orders_per_row_write = counted.settled as f64 / counted.row_writes.max(1) as f64;
        Ok(End {
            compared,
            sold,
            orders_per_row_write,
            orders_per_second: report.answered_per_second(),
            is_right,
            says: verdict.to_string(),
        })
    }
}

fn point(began: Instant, before: &Before, counted: &Counted, left: u64) -> anyhow::Result<Point> {
    let accepted = counted.accepted.saturating_sub(before.counted.accepted);
    let since = counted.totals.since(&before.counted.totals);
    let [settled, row_writes] =
        [since.settled, since.row_writes].map(|count| u64::try_from(count).unwrap_or_default());
    Ok(Point {
        ms: u64::try_from(began.elapsed().as_millis())?,
        accepted,
        refused: counted.refused.saturating_sub(before.counted.refused),
        settled,
        row_writes,
        queued: accepted.saturating_sub(settled),
        left,
    })
}
