//! The audit log: what an operator did with dead letters. Ingest writes what administrators do.

use serde_json::Value;
use sqlx::PgExecutor;

/// Records what was done with something.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn record(
    executor: impl PgExecutor<'_>,
    actor: &str,
    action: &str,
    subject: &str,
    before: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into audit_log (actor, role, action, subject, before)
        values ($1, 'admin', $2, $3, $4)
        "#,
        actor,
        action,
        subject,
        before,
    )
    .execute(executor)
    .await?;
    Ok(())
}
