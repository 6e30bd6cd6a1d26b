//! All SQL of the switch for all purchases.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    outcome::{timestamp, timestamp_if_any},
    sale::Switch,
};
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};

use super::bodies::SwitchBody;
use crate::audit::{self, By};

/// The switch as it is read, and as it is shown.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Read {
    paused: bool,
    holds: String,
    #[serde(serialize_with = "timestamp_if_any")]
    until: Option<DateTime<Utc>>,
    note: Option<String>,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    #[serde(skip)]
    version: i64,
    #[serde(skip)]
    now: DateTime<Utc>,
}

impl Read {
    /// The switch as the door needs it.
    pub(super) fn switch(&self) -> Switch {
        Switch {
            version: self.version,
            is_paused: self.paused,
            until: self.until,
        }
    }

    /// As it works now: once its end has come, purchases go on.
    pub(super) fn shown(mut self) -> Self {
        self.paused = self.switch().stops(self.now);
        self
    }
}

/// Reads the switch.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn read(executor: impl PgExecutor<'_>) -> Result<Read, sqlx::Error> {
    let read = sqlx::query_as!(
        Read,
        r#"select paused, holds, until, note, at, version, clock_timestamp() as "now!" from sale_switch"#
    );
    read.fetch_one(executor).await
}

/// Turns the switch, and notes who did.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn write(pool: &PgPool, body: &SwitchBody, by: &By) -> Result<Read, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("select from sale_switch for no key update")
        .fetch_all(&mut *transaction)
        .await?;
    let before = read(&mut *transaction).await?;
    sqlx::query!(
        r#"
        update sale_switch
        set paused = $1, holds = $2, until = $3, note = $4, version = version + 1, at = clock_timestamp()
        "#,
        body.is_paused,
        body.holds.as_str(),
        body.until,
        body.note,
    )
    .execute(&mut *transaction)
    .await?;
    let after = read(&mut *transaction).await?;
    let entry = audit::Entry {
        action: "sale.switch",
        subject: "sale",
        before: audit::json(&before),
        after: audit::json(&after),
    };
    audit::record(&mut transaction, by, entry).await?;
    transaction.commit().await?;
    Ok(after)
}
