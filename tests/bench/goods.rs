//! Goods: what is for sale in a round, and what its orders ask for.

use std::sync::Arc;

use hotrow_tests::load::{Basket, Choice};
use rand::{SeedableRng, rngs::SmallRng, seq::index};
use rand_distr::{Distribution, Zipf};
use sqlx::PgConnection;
use uuid::Uuid;

/// The hot product.
pub(crate) const HOT: &str = "chair-123";
/// A product that is bought beside the hot one.
pub(crate) const OTHER: &str = "table-456";
/// Products that pages listen to.
pub(crate) const LISTENED_TO: [&str; 4] = ["live-0", "live-1", "live-2", "live-3"];
/// So much of each product that no round sells it out.
pub(crate) const PLENTY: i64 = 100_000_000;
/// For how long goods are held: longer than any round takes.
const HOLD_SECONDS: i32 = 3_600;
/// Pieces that a customer may have, where there is a limit.
const MAX_PER_CUSTOMER: i32 = 1_000;
/// The products of a shop with many.
const MANY: u32 = 10_000;
/// The k-th product is asked for 1/k as often as the first: the usual law of popularity.
const ZIPF_EXPONENT: f32 = 1.0;
/// Different carts of three.
const CARTS: usize = 20_000;
/// Choices that are drawn before the load starts and then repeated.
const DRAWN: usize = 1 << 17;
/// The products that the largest carts are filled with.
const LARGE: u32 = 1_000;
/// Different carts of the largest size, enough for every partition.
const LARGEST_CARTS: usize = 512;
/// Every run draws the same.
const SEED: u64 = 17;

const PUT_UP: &str = "
    with put as (
        insert into inventory (sku, title, unit_price_minor, currency, available, hold_seconds, hold_seconds_max,
                               max_per_customer, limited_since)
        select sku, 'Chair', 4990, 'EUR', $2, $3, $3, $4, case when $4 is not null then clock_timestamp() end
        from unnest($1::text[]) as product (sku)
        returning sku, available
    )
    insert into inventory_ledger (sku, kind, delta, balance)
    select sku, 'put', available, available from put";

/// What is for sale.
pub(crate) struct Goods {
    skus: Vec<String>,
    available: i64,
    hold_seconds: Option<i32>,
    max_per_customer: Option<i32>,
}

impl Goods {
    /// One product, with plenty of it.
    pub(crate) fn one() -> Self {
        Self::few(PLENTY)
    }

    /// One product, `available` times.
    pub(crate) fn few(available: i64) -> Self {
        Self::of(vec![HOT.to_owned()], available)
    }

    /// One product, `available` times, whose orders are reserved until they are paid.
    pub(crate) fn held(available: i64) -> Self {
        Self {
            hold_seconds: Some(HOLD_SECONDS),
            ..Self::few(available)
        }
    }

    /// One product, with plenty of it, of which a customer may have more than any gets in a round.
    pub(crate) fn limited() -> Self {
        Self {
            max_per_customer: Some(MAX_PER_CUSTOMER),
            ..Self::one()
        }
    }

    /// Another product, with plenty of it, whose orders are confirmed at once.
    pub(crate) fn other() -> Self {
        Self::of(vec![OTHER.to_owned()], PLENTY)
    }

    /// The hot product, and those that pages listen to.
    pub(crate) fn listened_to() -> Self {
        let skus = [HOT].into_iter().chain(LISTENED_TO);
        Self::of(skus.map(str::to_owned).collect(), PLENTY)
    }

    /// 10,000 products, with plenty of each.
    pub(crate) fn many() -> Self {
        Self::of((0..MANY).map(sku).collect(), PLENTY)
    }

    /// The products of [`largest_carts`], with plenty of each.
    pub(crate) fn large() -> Self {
        Self::of((0..LARGE).map(large_sku).collect(), PLENTY)
    }

    fn of(skus: Vec<String>, available: i64) -> Self {
        Self {
            skus,
            available,
            hold_seconds: None,
            max_per_customer: None,
        }
    }

    /// Writes the goods as an administrator's `PUT` would, all at once.
    pub(crate) async fn put_up(&self, database: &mut PgConnection) -> anyhow::Result<()> {
        sqlx::query(PUT_UP)
            .bind(&self.skus)
            .bind(self.available)
            .bind(self.hold_seconds)
            .bind(self.max_per_customer)
            .execute(database)
            .await?;
        Ok(())
    }
}

/// How the idempotency keys of a load start that no other load uses. With the order's number behind it a
/// key is as long as a UUID.
pub(crate) fn key_prefix() -> String {
    format!("{}-", &Uuid::new_v4().to_string()[..19])
}

/// Orders of one of many products, some far more popular than others.
pub(crate) fn popular() -> anyhow::Result<(Vec<Basket>, Choice)> {
    let baskets = (0..MANY).map(|number| Basket::one(sku(number), 1));
    let mut random = SmallRng::seed_from_u64(SEED);
    let zipf = zipf()?;
    let drawn: Vec<_> = (0..DRAWN)
        .map(|_| draw(zipf, &mut random) as usize)
        .collect();
    let choice = move |order: u64| drawn[usize::try_from(order).unwrap_or_default() % DRAWN];
    Ok((baskets.collect(), Choice::By(Arc::new(choice))))
}

/// Orders of three of many products.
pub(crate) fn carts() -> anyhow::Result<(Vec<Basket>, Choice)> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let zipf = zipf()?;
    let cart = |_| {
        let mut items: Vec<u32> = Vec::with_capacity(3);
        while items.len() < 3 {
            let item = draw(zipf, &mut random);
            if !items.contains(&item) {
                items.push(item);
            }
        }
        Basket::several(items.into_iter().map(|item| (sku(item), 1)).collect())
    };
    Ok(((0..CARTS).map(cart).collect(), Choice::InTurn))
}

/// Orders as large as the API takes them: 20 items with SKUs of 64 characters. With the customer ids of
/// [`longest_customer_prefix`] and the keys of [`longest_key_prefix`] none is larger.
pub(crate) fn largest_carts() -> Vec<Basket> {
    const ITEMS: usize = 20;
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut cart = || {
        let items = index::sample(&mut random, LARGE as usize, ITEMS).into_iter();
        let numbers = items.filter_map(|item| u32::try_from(item).ok());
        Basket::several(numbers.map(|item| (large_sku(item), 1)).collect())
    };
    (0..LARGEST_CARTS).map(|_| cart()).collect()
}

/// With the 16 digits of a load behind it, a customer id of 128 characters.
pub(crate) fn longest_customer_prefix() -> String {
    "c".repeat(128 - 16)
}

/// With the 16 digits of a load behind it, an idempotency key of 255 characters that no other load uses.
pub(crate) fn longest_key_prefix() -> String {
    format!("{:k<width$}", Uuid::new_v4().simple(), width = 255 - 16)
}

fn zipf() -> anyhow::Result<Zipf<f32>> {
    #[expect(clippy::cast_precision_loss, reason = "10,000 is exact")]
    Ok(Zipf::new(MANY as f32, ZIPF_EXPONENT)?)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 1 to 10,000"
)]
fn draw(zipf: Zipf<f32>, random: &mut SmallRng) -> u32 {
    zipf.sample(random) as u32 - 1
}

fn large_sku(number: u32) -> String {
    format!("{number:s>64}")
}

fn sku(number: u32) -> String {
    format!("chair-{number:05}")
}
