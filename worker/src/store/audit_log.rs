//! The audit log: what an operator did with dead letters. Ingest writes what administrators do.

use hotrow_shared::request_id::RequestId;
use serde_json::Value;
use sqlx::PgConnection;

/// Records what is done with something, in the transaction that does it. `request_id` is that of the HTTP request
/// which the thing comes from.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn record(
    connection: &mut PgConnection,
    actor: &str,
    action: &str,
    subject: &str,
    before: &Value,
    request_id: Option<&RequestId>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into audit_log (actor, role, action, subject, before, request_id)
        values ($1, 'admin', $2, $3, $4, $5)
        "#,
        actor,
        action,
        subject,
        before,
        request_id.map(RequestId::as_str),
    )
    .execute(connection)
    .await?;
    Ok(())
}
