//! All SQL of the switch for all purchases.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    outcome::{timestamp, timestamp_if_any},
    sale::Switch,
};
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};
use utoipa::ToSchema;

use super::bodies::{Holds, SwitchBody};
use crate::audit::{self, By};

/// The row of the switch.
#[derive(Debug, Clone)]
pub(super) struct Read {
    paused: bool,
    holds: String,
    until: Option<DateTime<Utc>>,
    note: Option<String>,
    at: DateTime<Utc>,
    version: i64,
    /// When it was read, by the database's clock.
    pub(super) now: DateTime<Utc>,
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

    /// As it works at a time: once its end has come, purchases go on, and nothing of the stop is left.
    pub(super) fn shown(self, now: DateTime<Utc>) -> Shown {
        let stops = self.switch().stops(now);
        let is_over = self.paused && !stops;
        Shown {
            paused: stops,
            holds: if is_over {
                Holds::Run.as_str().to_owned()
            } else {
                self.holds
            },
            until: self.until.filter(|_| !is_over),
            note: self.note,
            at: self.at,
        }
    }
}

/// The switch as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SaleSwitch)]
pub(super) struct Shown {
    /// Whether all purchases are stopped.
    paused: bool,
    /// `run`: holds end as always. `keep`: none ends before purchases go on.
    holds: String,
    /// When purchases go on by themselves.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    until: Option<DateTime<Utc>>,
    /// What an administrator wrote about it.
    #[schema(required)]
    note: Option<String>,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
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

/// Turns the switch, and notes who did. None, and nothing is done, if the end of the stop is over already.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn write(
    pool: &PgPool,
    body: &SwitchBody,
    by: &By,
) -> Result<Option<Read>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("select from sale_switch for no key update")
        .fetch_all(&mut *transaction)
        .await?;
    let before = read(&mut *transaction).await?;
    if body.until.is_some_and(|until| until <= before.now) {
        return Ok(None);
    }
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
        before: audit::json(&before.clone().shown(before.now)),
        after: audit::json(&after.clone().shown(after.now)),
    };
    audit::record(&mut transaction, by, entry).await?;
    transaction.commit().await?;
    Ok(Some(after))
}
