//! Sold out: the SKUs of which nothing is left, so that the crowd that comes late is refused at the
//! door.
//!
//! The news says so, with the version of the row, and an older version never overrides a newer one.
//! News can be lost, and a shop would stay closed if that of a restock was. So every SKU that counts as
//! sold out is looked up in the database twice a second.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use hotrow_shared::{
    news::StockNews,
    order::{Items, Sku},
};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often sold-out SKUs are looked up.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// SKUs that are remembered; beyond, a sold-out SKU is queued and rejected like any other.
const SKUS_MAX: usize = 100_000;
/// How long the version of a SKU that is not sold out is remembered, so that late news of its
/// selling out is known to be old.
const REMEMBER: Duration = Duration::from_mins(1);

/// What is known of a SKU.
struct Known {
    version: i64,
    sold_out: bool,
    /// Held goods may come back.
    is_held: bool,
    since: Instant,
}

/// The SKUs of which nothing is left.
#[derive(Default)]
pub(crate) struct SoldOut {
    known: RwLock<HashMap<Sku, Known>>,
}

impl SoldOut {
    /// The first of the items that is sold out, and whether some of it is held for orders that may not be paid.
    #[must_use]
    pub(crate) fn among<'a>(&self, items: &'a Items) -> Option<(&'a Sku, bool)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return None;
        }
        let sold_out = |sku: &'a Sku| {
            let known = known.get(sku).filter(|known| known.sold_out)?;
            Some((sku, known.is_held))
        };
        let mut skus = items.as_slice().iter().map(|item| &item.sku);
        skus.find_map(sold_out)
    }

    /// Takes in news of a SKU.
    pub(crate) fn hear(&self, news: &StockNews) {
        let sold_out = news.available <= 0;
        let is_held = news.held > 0;
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            match known.get(&news.sku) {
                // The rule of a sale: the stock goes down, and nothing changes here.
                None if !sold_out => return,
                Some(known) if known.version > news.version => return,
                Some(known)
                    if known.version == news.version
                        && known.sold_out == sold_out
                        && known.is_held == is_held =>
                {
                    return;
                }
                _ => {}
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SKUS_MAX && !known.contains_key(&news.sku) {
            return;
        }
        let entry = known.entry(news.sku.clone()).or_insert(Known {
            version: i64::MIN,
            sold_out,
            is_held,
            since: Instant::now(),
        });
        if entry.version <= news.version {
            *entry = Known {
                version: news.version,
                sold_out,
                is_held,
                since: Instant::now(),
            };
        }
    }

    /// Believes the database that there is something left, whatever the version: after a fail-over to a
    /// server that missed the last writes, versions begin again from an earlier one. If the answer was
    /// late, some orders are queued and rejected, and the news of that closes the door again.
    fn reopen(&self, found: &StockNews) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let reopened = Known {
            version: found.version,
            sold_out: false,
            is_held: found.held > 0,
            since: Instant::now(),
        };
        known.insert(found.sku.clone(), reopened);
    }

    /// Looks up what counts as sold out, until `shutdown`.
    pub(crate) async fn refresh(self: Arc<Self>, pool: PgPool, shutdown: CancellationToken) {
        while shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL))
            .await
            .is_some()
        {
            let skus = self.sold_out_skus();
            if skus.is_empty() {
                continue;
            }
            match timeout(ANSWER_MAX, reopened(&pool, &skus))
                .await
                .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            {
                Ok(reopened) => reopened.iter().for_each(|news| self.reopen(news)),
                Err(error) => tracing::debug!(%error, "sold-out products cannot be looked up"),
            }
        }
    }

    fn sold_out_skus(&self) -> Vec<String> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.sold_out || known.since.elapsed() < REMEMBER);
        known
            .iter()
            .filter(|(_, known)| known.sold_out)
            .map(|(sku, _)| sku.as_str().to_owned())
            .collect()
    }
}

async fn reopened(pool: &PgPool, skus: &[String]) -> Result<Vec<StockNews>, sqlx::Error> {
    let rows = sqlx::query!(
        "select sku, version, available from inventory where sku = any($1) and available > 0",
        skus
    )
    .fetch_all(pool)
    .await?;
    let news = rows.into_iter().filter_map(|row| {
        let sku = Sku::try_from(row.sku.as_str()).ok()?;
        Some(StockNews {
            sku,
            version: row.version,
            available: row.available,
            held: 0,
        })
    });
    Ok(news.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(version: i64, available: i64) -> StockNews {
        StockNews {
            sku: Sku::try_from("hot").expect("a valid name"),
            version,
            available,
            held: 0,
        }
    }

    #[test]
    fn late_news_of_selling_out_does_not_close_a_restocked_sku() {
        let items: Items =
            serde_json::from_str(r#"[{"sku":"cold","quantity":1},{"sku":"hot","quantity":1}]"#)
                .expect("items");
        let sold_out = SoldOut::default();
        let is_open = || sold_out.among(&items).is_none();
        sold_out.hear(&news(4, 10));
        assert!(is_open());
        sold_out.hear(&news(5, 0));
        assert!(!is_open());
        sold_out.hear(&news(6, 100));
        assert!(is_open());
        sold_out.hear(&news(5, 0));
        assert!(is_open(), "version 5 is older than version 6");
        sold_out.hear(&news(7, 0));
        assert!(!is_open());
        sold_out.reopen(&news(3, 100));
        assert!(is_open(), "the database decides");
    }
}
