//! The route of the audit log.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{AuditDesk, store};
use crate::{
    http::{NO_STORE, problem::Problem, query},
    page::{self, in_time},
};

#[derive(Serialize)]
struct Page {
    audit: Vec<store::Shown>,
    /// What to ask for as `after` to get the next page; none on the last.
    next_after: Option<i64>,
}

/// `GET /v1/audit?subject=&after=&limit=`: what was changed, and by whom, in the sequence of the changes.
///
/// # Errors
/// 400 for another parameter, 401 without the token, 422 for a page that cannot be, 503 without a database.
pub(crate) async fn page(
    State(desk): State<Arc<AuditDesk>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [subject, after, limit] = query::read(&uri, ["subject", "after", "limit"])?;
    let limit = page::limit(limit.as_deref())?;
    let after = page::after(after.as_deref())?;
    let subject = subject.filter(|text| !text.is_empty());
    let rows = store::page(&desk.pool, subject.as_deref(), after, page::read(limit));
    let mut rows = in_time("the audit log", rows).await?;
    let next_after = page::cut(&mut rows, limit, |row| row.id);
    let page = Page {
        audit: rows,
        next_after,
    };
    Ok(([NO_STORE], Json(page)).into_response())
}
