//! The refresh: what news may have missed is read, without an index that settlements would have to write and
//! without a scan.
//!
//! - Twice a second closed SKUs are looked up, and open ones that somebody wants to buy while no news of them comes:
//!   one look at the primary key for each, and an answer only for those that changed. So the door hears of a change
//!   within a second. Of more than 5,000 closed SKUs those go first that somebody was refused for; the others take
//!   turns.
//! - With them go those that administrators changed within the last seconds, and those that somebody wants to buy and
//!   that are not known: an unknown product is refused only when the database said so.
//! - Beside it a walk through the whole table reads a page at a time. So whatever happens, a change of any of
//!   100,000 SKUs is known after 100 seconds, and of 500 after half a second.
//!
//! What clients see of a product does not rest on this: a row that was not confirmed within a second is read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotrow_shared::order::Sku;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Asked, Board, Word,
    store::{self, AsRead},
};

/// How often closed SKUs are looked up and a page is read.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After how long without news a SKU that is wanted is looked up: so short that it happens within a second.
const SILENCE: Duration = LOOK_INTERVAL.checked_div(2).expect("not by zero");
/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long reading everything at the start may take.
const FILL_MAX: Duration = Duration::from_secs(10);
/// Rows that the walk reads at once.
const PAGE: usize = 500;

/// Reads everything, page after page, before anybody is served: what is paused must stay so over a restart, and only
/// the door knows of it. With a database that is too slow for that, the rest is read beside the sale.
pub(crate) async fn fill(board: &Board, pool: &PgPool) {
    let mut walk = Walk::begin();
    let all = async {
        while walk.is_first && !board.is_full() {
            walk.step(board, pool).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    match timeout(FILL_MAX, all).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the inventory cannot be read at the start"),
        Err(_) => tracing::warn!("the inventory cannot be read within {FILL_MAX:?}"),
    }
}

/// Refreshes the board until `shutdown`.
pub(crate) async fn refresh_forever(board: Arc<Board>, pool: PgPool, shutdown: CancellationToken) {
    let mut walk = Walk::begin();
    let forever = async {
        loop {
            if let Err(error) = in_time(walk.step(&board, &pool)).await {
                tracing::debug!(%error, "the inventory cannot be walked through");
            }
            sleep(LOOK_INTERVAL).await;
            if let Err(error) = in_time(look(&board, &pool)).await {
                tracing::debug!(%error, "closed products cannot be looked up");
            }
        }
    };
    shutdown.run_until_cancelled(forever).await;
}

async fn in_time(work: impl Future<Output = Result<(), sqlx::Error>>) -> Result<(), sqlx::Error> {
    let done = timeout(ANSWER_MAX, work).await;
    done.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Looks up the SKUs that matter at the door.
async fn look(board: &Board, pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut questions = board.questions(SILENCE);
    let ruled = store::changed_by_administrators(pool).await?;
    let ruled = ruled
        .iter()
        .filter_map(|sku| Sku::try_from(sku.as_str()).ok());
    questions.extend(board.questions_about(ruled));
    if questions.is_empty() {
        return Ok(());
    }
    let mut as_read = AsRead::default();
    for (sku, stock) in &questions {
        as_read.push(sku, *stock);
    }
    let asked = Instant::now();
    let mut changed = store::changed(pool, &as_read).await?;
    for (sku, _) in questions {
        match changed.remove(sku.as_str()) {
            Some(row) => board.answer(&sku, row, Asked::At(asked)),
            None => board.learn(&sku, Word::Unchanged(asked, Instant::now())),
        }
    }
    Ok(())
}

/// A walk through all rows, round after round.
struct Walk {
    /// The last SKU that was read; empty at the start of a round.
    after: String,
    /// When the round began.
    began: Instant,
    is_first: bool,
}

impl Walk {
    fn begin() -> Self {
        Self {
            after: String::new(),
            began: Instant::now(),
            is_first: true,
        }
    }

    /// Reads the next page.
    async fn step(&mut self, board: &Board, pool: &PgPool) -> Result<(), sqlx::Error> {
        let asked = Instant::now();
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let rows = store::page(pool, &self.after, limit).await?;
        let is_last = rows.len() < PAGE;
        if let Some(last) = rows.last() {
            self.after.clone_from(&last.sku);
        }
        for row in rows {
            if let Ok(sku) = Sku::try_from(row.sku.as_str()) {
                board.answer(&sku, Some(row), Asked::At(asked));
            }
        }
        if is_last {
            board.forget_older_than(self.began);
            *self = Self {
                is_first: false,
                ..Self::begin()
            };
        }
        Ok(())
    }
}
