//! The switch for all purchases. Ingest writes it.

use sqlx::PgExecutor;

/// Whether holds are kept at this moment: purchases are stopped, and nothing is to expire meanwhile.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn keeps_holds(executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    let keeps = sqlx::query_scalar!(
        r#"
        select exists (
            select from sale_switch
            where paused and holds = 'keep' and (until is null or until > clock_timestamp())
        ) as "keeps!"
        "#
    );
    keeps.fetch_one(executor).await
}
