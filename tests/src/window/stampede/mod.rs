//! The stampede: buyers by the thousand, made here by the load generator, on a product that is put up for each run.
//! One at a time, and its numbers for the page to draw.

mod books;
mod figures;
mod run;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use self::{
    books::{Compared, Sold},
    figures::Point,
};
use super::{Room, refusal::Refusal};

/// How many buyers may come.
pub(super) const BUYERS_MIN: u64 = 100;
/// See [`BUYERS_MIN`].
pub(super) const BUYERS_MAX: u64 = 5_000;
/// How often each buyer buys, every third time two pieces, and how many pieces a customer may have.
const PURCHASES_EACH: u64 = 3;
const PIECES_EACH: u64 = 2;

/// The stampede that runs, or ran last.
#[derive(Default)]
pub(super) struct Stampedes {
    shown: Arc<Mutex<Shown>>,
    running: Mutex<Option<AbortHandle>>,
}

/// How it is, as the page is told.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Shown {
    phase: Phase,
    /// Counted from the start of the demo.
    number: u64,
    buyers: u64,
    orders: u64,
    put_up: u64,
    pieces_each: u64,
    points: Vec<Point>,
    end: Option<End>,
    /// Why it failed.
    detail: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// There was none yet.
    #[default]
    None,
    Running,
    Over,
    Failed,
}

/// What there was to count in the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct End {
    /// What the processes counted, beside what the database has.
    compared: Vec<Compared>,
    /// What the database says of the product.
    sold: Sold,
    orders_per_row_write: f64,
    orders_per_second: f64,
    /// Nothing is lost, doubled or oversold, and all numbers agree.
    is_right: bool,
    /// The audit in one sentence.
    says: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    buyers: u64,
}

impl Stampedes {
    fn look(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// Ends the one that runs, if one does.
    pub(super) fn stop(&self) {
        if let Some(running) = lock(&self.running).take() {
            running.abort();
        }
    }
}

/// How the stampede is. The page asks again and again.
pub(super) async fn show(State(room): State<Arc<Room>>) -> Result<Json<Shown>, Refusal> {
    Ok(Json(room.open()?.stampedes.look().clone()))
}

/// Lets so many buyers in.
pub(super) async fn begin(
    State(room): State<Arc<Room>>,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Json<Shown>), Refusal> {
    let Wish { buyers } = wish;
    if !(BUYERS_MIN..=BUYERS_MAX).contains(&buyers) {
        return Err(Refusal::Invalid(format!(
            "buyers: must be from {BUYERS_MIN} to {BUYERS_MAX}"
        )));
    }
    let open = room.open()?;
    let stampedes = &open.stampedes;
    let begun = {
        let mut shown = stampedes.look();
        if shown.phase == Phase::Running {
            return Err(Refusal::Conflict("a stampede is under way".to_owned()));
        }
        *shown = Shown {
            phase: Phase::Running,
            number: shown.number + 1,
            buyers,
            orders: buyers * PURCHASES_EACH,
            // More than all buy with their first purchase, and less than they want: so both the limit and the end of the
            // stock turn people away.
            put_up: buyers * 3 / 2,
            pieces_each: PIECES_EACH,
            ..Shown::default()
        };
        shown.clone()
    };
    let plan = run::Plan::new(open.shop.clone(), &begun);
    let shown = Arc::clone(&stampedes.shown);
    let running = tokio::spawn(async move {
        let told = Arc::clone(&shown);
        let end = plan.play(|point| lock(&told).points.push(point)).await;
        let mut shown = lock(&shown);
        match end {
            Ok(end) => (shown.phase, shown.end) = (Phase::Over, Some(end)),
            Err(error) => {
                (shown.phase, shown.detail) = (Phase::Failed, Some(format!("{error:#}")));
            }
        }
    });
    *lock(&stampedes.running) = Some(running.abort_handle());
    Ok((StatusCode::ACCEPTED, Json(begun)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
