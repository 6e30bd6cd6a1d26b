//! All SQL of the audit log.

use chrono::{DateTime, Utc};
use hotrow_shared::{outcome::timestamp, request_id::RequestId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use super::By;

/// What was changed.
pub(crate) struct Entry<'a> {
    /// Such as `inventory.put`.
    pub(crate) action: &'static str,
    /// Such as a SKU.
    pub(crate) subject: &'a str,
    /// What there was, if there was anything.
    pub(crate) before: Option<Box<RawValue>>,
    /// What there is, if there is anything.
    pub(crate) after: Option<Box<RawValue>>,
}

/// What is changed, as the log keeps it.
pub(crate) fn json(what: &impl Serialize) -> Option<Box<RawValue>> {
    to_raw_value(what)
        .inspect_err(|error| tracing::error!(%error, "a change cannot be written as JSON"))
        .ok()
}

/// Records a change, in its transaction.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn record(
    connection: &mut PgConnection,
    by: &By,
    entry: Entry<'_>,
) -> Result<(), sqlx::Error> {
    let text = |json: Option<Box<RawValue>>| json.map(|json| json.get().to_owned());
    sqlx::query!(
        r#"
        insert into audit_log (actor, role, action, subject, before, after, request_id, client)
        values ($1, $2, $3, $4, $5::text::json, $6::text::json, $7, $8)
        "#,
        by.actor.name,
        by.actor.role.as_str(),
        entry.action,
        entry.subject,
        text(entry.before),
        text(entry.after),
        by.request_id.as_ref().map(RequestId::as_str),
        by.client.map(|client| client.to_string()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of the log, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct Shown {
    /// By which the log is paged.
    pub(super) id: i64,
    /// When.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    /// Who, as the token said, or `admin-token`.
    #[schema(required)]
    actor: Option<String>,
    /// The role of who did it.
    role: String,
    /// What was done, such as `inventory.put`. Words may be added.
    action: String,
    /// To what, such as a SKU or the id of an endpoint.
    subject: String,
    /// What there was, in the shape of what was changed; null if there was nothing.
    #[schema(required, value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// What there is since; null if there is nothing.
    #[schema(required, value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    /// The request that did it.
    #[schema(required)]
    request_id: Option<String>,
    /// The address that it came from.
    #[schema(required)]
    client: Option<String>,
}

/// Reads up to `limit` rows behind an id, by id; those of one subject if it is named.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn page(
    pool: &PgPool,
    subject: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<Shown>, sqlx::Error> {
    // Two statements, because the plan of one has to do for every value of its parameters.
    let rows = if let Some(subject) = subject {
        let of_subject = sqlx::query_as!(
            Row,
            r#"
                select id, at, actor, role, action, subject, before::text, after::text, request_id, client
                from audit_log
                where subject = $1 and id > $2
                order by id
                limit $3
                "#,
            subject,
            after,
            limit,
        );
        of_subject.fetch_all(pool).await?
    } else {
        let all = sqlx::query_as!(
            Row,
            r#"
                select id, at, actor, role, action, subject, before::text, after::text, request_id, client
                from audit_log
                where id > $1
                order by id
                limit $2
                "#,
            after,
            limit,
        );
        all.fetch_all(pool).await?
    };
    Ok(rows.into_iter().map(Shown::from).collect())
}

/// A row of the log.
struct Row {
    id: i64,
    at: DateTime<Utc>,
    actor: Option<String>,
    role: String,
    action: String,
    subject: String,
    before: Option<String>,
    after: Option<String>,
    request_id: Option<String>,
    client: Option<String>,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            role: row.role,
            action: row.action,
            subject: row.subject,
            before: raw(row.before),
            after: raw(row.after),
            request_id: row.request_id,
            client: row.client,
        }
    }
}
