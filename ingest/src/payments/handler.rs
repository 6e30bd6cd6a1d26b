//! The routes below `/v1/payments/unmatched`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{PaymentsDesk, store};
use crate::{
    auth::Caller,
    http::{
        NO_STORE, body,
        json::{Faults, Place, Value},
        problem::Problem,
        query,
    },
    page::{self, done_in_time, in_time},
};

/// The longest note, in characters.
const NOTE_LENGTH_MAX: usize = 500;
/// How long resolving may take.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);

const UNKNOWN_PAYMENT: Problem = Problem::NotFound("there is no such unmatched payment");

#[derive(Serialize)]
struct Payments {
    payments: Vec<store::Unmatched>,
    /// What to ask for as `after` to get the next page; none on the last.
    next_after: Option<i64>,
}

/// `GET /v1/payments/unmatched?after=&limit=`: those that nobody has resolved yet.
///
/// # Errors
/// 400 for another parameter, 422 for a page that cannot be, 503 without a database.
pub(crate) async fn unmatched(
    State(desk): State<Arc<PaymentsDesk>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [after, limit] = query::read(&uri, ["after", "limit"])?;
    let limit = page::limit(limit.as_deref())?;
    let after = page::after(after.as_deref())?;
    let payments = store::page(&desk.pool, after, page::read(limit));
    let mut payments = in_time("the unmatched payments", payments).await?;
    let next_after = page::cut(&mut payments, limit, |payment| payment.id);
    let page = Payments {
        payments,
        next_after,
    };
    Ok(([NO_STORE], Json(page)).into_response())
}

/// `POST /v1/payments/unmatched/{id}/resolve`: somebody has taken care of it. The first note stays.
///
/// # Errors
/// 404 for an unknown payment, 422 for a note that cannot be, 503 without a database.
pub(crate) async fn resolve(
    State(desk): State<Arc<PaymentsDesk>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let Path(id) = path?;
    let content = body::read(&headers, content).await?;
    let note = body::parse_by_hand(&content, examine_note)?;
    let id = id.parse().map_err(|_| UNKNOWN_PAYMENT)?;
    let by = caller.actor()?.name;
    let resolved = store::resolve(&desk.pool, id, by.as_deref(), &note);
    let unknown = || Problem::CommandUnknown(None);
    let resolved = done_in_time(RESOLVE_TIME_MAX, "an unmatched payment", unknown, resolved);
    let resolved = resolved.await?.ok_or(UNKNOWN_PAYMENT)?;
    Ok(([NO_STORE], Json(resolved)).into_response())
}

/// Reads what was done about a payment.
fn examine_note(body: &Value, faults: &mut Faults) -> Option<String> {
    let [note] = faults.members(&Place::Body, body, ["note"])?;
    let place = Place::Member(&Place::Body, "note");
    let fits = |text: &str| (1..=NOTE_LENGTH_MAX).contains(&text.chars().count());
    let detail = format_args!("must be 1 to {NOTE_LENGTH_MAX} characters");
    let note = faults.fitting_text(&place, note?, fits, detail)?;
    if note.contains('\0') {
        faults.add(&place, "must not hold the character U+0000");
    }
    Some(note.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_1_to_500_characters() {
        let read = |note: &str| {
            let body = serde_json::json!({ "note": note }).to_string();
            body::parse_by_hand(body.as_bytes(), examine_note).ok()
        };
        for note in ["x", "Rückzahlung re_1", &"ü".repeat(500)] {
            assert_eq!(read(note).as_deref(), Some(note));
        }
        for wrong in ["", &"ü".repeat(501), "a\0b"] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }
}
