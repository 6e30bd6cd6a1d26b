//! The route of the audit log.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{AuditDesk, store};
use crate::{
    description::parameters::{AfterNumber, LimitQuery},
    http::{NO_STORE, problem::Problem, query},
    page::{self, in_time},
};

/// Of what the changes are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
struct SubjectQuery {
    /// Only changes of this, such as a SKU.
    #[param(nullable = false, example = "chair-123")]
    subject: Option<String>,
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditLog)]
struct Page {
    /// In the sequence of the changes.
    audit: Vec<store::Shown>,
    /// What to ask for as `after` to get the next page; none on the last.
    #[schema(required)]
    next_after: Option<i64>,
}

/// `GET /v1/audit?subject=&after=&limit=`: what was changed, and by whom, in the sequence of the changes.
///
/// # Errors
/// 400 for another parameter, 401 without the token, 422 for a page that cannot be, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "readAuditLog",
    tag = "administration",
    summary = "Read who changed what",
    description = "Changes of the inventory, the switch for all purchases, webhooks and dead letters, in the sequence in which they were made.",
    params(SubjectQuery, AfterNumber, LimitQuery),
    responses((status = 200, description = "A page of the log.", body = Page, headers(("Cache-Control")), example = json!({
        "audit": [{
            "id": 12, "at": "2026-11-21T00:46:53.719Z", "actor": "admin-token", "role": "admin", "action": "inventory.restock", "subject": "chair-123",
            "before": {"sku": "chair-123", "available": 3}, "after": {"sku": "chair-123", "available": 13}, "request_id": "r-17", "client": "192.0.2.7",
        }],
        "next_after": 12,
    }))),
)]
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
