//! The parts of the tables that are parted by day: found, made, dropped.

use chrono::NaiveDate;
use hotrow_shared::id::Day;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// One process at a time makes days.
const MAKE_LOCK: i64 = 0x686f_7472_6f77_0002;

/// A table that is parted by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Orders,
    /// What became of the orders of the same day.
    Changes,
    Ledger,
}

impl Table {
    /// In the sequence in which days are dropped: changes need their orders until the end.
    pub(super) const ALL: [Self; 3] = [Self::Changes, Self::Orders, Self::Ledger];

    const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Changes => "order_changes",
            Self::Ledger => "inventory_ledger",
        }
    }

    /// Whether its rows say what is held.
    pub(super) const fn holds_goods(self) -> bool {
        matches!(self, Self::Orders | Self::Changes)
    }

    /// The smallest value of a day, as a literal.
    pub(super) fn start_of(self, day: Day) -> String {
        match self {
            Self::Orders | Self::Changes => format!("'{}'", day.first_id()),
            Self::Ledger => format!("'{} 00:00:00+00'", date_of(day)),
        }
    }

    fn part_of(self, day: Day) -> String {
        format!("{}_{}", self.name(), date_of(day).format("%Y%m%d"))
    }

    /// The first and the last day that the part of this name holds. The ledger's entries from before it had
    /// parts are one of many days.
    fn days_of(self, part: &str) -> Option<(Day, Day)> {
        let name = part.strip_prefix(self.name())?.strip_prefix('_')?;
        let (first, last) = name.split_once('_').unwrap_or((name, name));
        Some((day_of(first)?, day_of(last)?))
    }
}

pub(super) fn date_of(day: Day) -> NaiveDate {
    NaiveDate::default() + chrono::Days::new(day.0)
}

fn day_of(date: &str) -> Option<Day> {
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").ok()?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    u64::try_from(days).ok().map(Day)
}

/// A part of a table.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) first: Day,
    pub(super) last: Day,
    /// A crash may leave one that belongs to the table no more.
    is_attached: bool,
    /// An attempt to detach it was cut off half-way: it is invisible, and has to be finished first.
    pub(super) is_pending: bool,
}

pub(super) fn covers(parts: &[Part], day: Day) -> bool {
    parts
        .iter()
        .any(|part| (part.first..=part.last).contains(&day))
}

/// The parts of a table, the oldest first.
pub(super) async fn parts(
    connection: &mut PgConnection,
    table: Table,
) -> Result<Vec<Part>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select part.relname as "name!", pg_inherits.inhrelid is not null as "is_attached!",
               coalesce(pg_inherits.inhdetachpending, false) as "is_pending!"
        from pg_class as part
        left join pg_inherits on pg_inherits.inhrelid = part.oid and pg_inherits.inhparent = to_regclass($1)
        where part.relkind = 'r'
          and part.relnamespace = (select relnamespace from pg_class where oid = to_regclass($1))
          and part.relname ~ ('^' || $1 || '_[0-9]{8}(_[0-9]{8})?$')
        "#,
        table.name(),
    )
    .fetch_all(connection)
    .await?;
    let part = |(name, is_attached, is_pending): (String, bool, bool)| {
        let (first, last) = table.days_of(&name)?;
        Some(Part {
            name,
            first,
            last,
            is_attached,
            is_pending,
        })
    };
    let mut parts: Vec<_> = rows
        .into_iter()
        .filter_map(|row| part((row.name, row.is_attached, row.is_pending)))
        .collect();
    parts.sort_by_key(|part| part.last);
    Ok(parts)
}

pub(super) async fn attached(
    connection: &mut PgConnection,
    table: Table,
) -> Result<Vec<Part>, sqlx::Error> {
    let mut parts = parts(connection, table).await?;
    parts.retain(|part| part.is_attached);
    Ok(parts)
}

pub(super) async fn make_missing(
    connection: &mut PgConnection,
    table: Table,
    parts: &[Part],
    days: impl Iterator<Item = Day>,
) -> Result<(), sqlx::Error> {
    for day in days.filter(|day| !covers(parts, *day)) {
        make(connection, table, day).await?;
    }
    Ok(())
}

async fn make(connection: &mut PgConnection, table: Table, day: Day) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", MAKE_LOCK)
        .execute(&mut *transaction)
        .await?;
    if covers(&attached(&mut transaction, table).await?, day) {
        // Another process was faster.
        return Ok(());
    }
    let (parent, part) = (table.name(), table.part_of(day));
    let (from, to) = (table.start_of(day), table.start_of(Day(day.0 + 1)));
    // Attaching takes a weaker lock than creating the table as a partition would.
    let create = format!("create table if not exists {part} (like {parent} including all)");
    execute(&mut transaction, create).await?;
    let attach =
        format!("alter table {parent} attach partition {part} for values from ({from}) to ({to})");
    execute(&mut transaction, attach).await?;
    transaction.commit().await?;
    tracing::info!(table = part, "made a day");
    Ok(())
}

/// Whether a part has rows, one that is attached no more, too.
async fn has_rows(connection: &mut PgConnection, part: &str) -> Result<bool, sqlx::Error> {
    let exists = format!("select exists (select from {part})");
    sqlx::query_scalar(AssertSqlSafe(exists))
        .fetch_one(connection)
        .await
}

pub(super) async fn drop_part(
    connection: &mut PgConnection,
    table: Table,
    part: &mut Part,
) -> Result<(), sqlx::Error> {
    if table == Table::Ledger && has_rows(connection, &part.name).await? {
        // Somebody detached it, or put entries into the past: without them the ledger would not add up.
        tracing::error!(
            table = part.name,
            "an old day of the ledger has entries that are not summed up: it stays until a person has looked"
        );
        return Ok(());
    }
    detach(connection, table, part).await?;
    execute(connection, format!("drop table {}", part.name)).await?;
    tracing::info!(table = part.name, "dropped a day");
    Ok(())
}

/// Takes a part out of its table, unless somebody did: nothing is written to it any more.
pub(super) async fn detach(
    connection: &mut PgConnection,
    table: Table,
    part: &mut Part,
) -> Result<(), sqlx::Error> {
    if part.is_attached {
        // An earlier attempt that was cut off half-way has to be finished.
        let how = if part.is_pending {
            "finalize"
        } else {
            "concurrently"
        };
        let (parent, name) = (table.name(), &part.name);
        let detach = format!("alter table {parent} detach partition {name} {how}");
        execute(connection, detach).await?;
        part.is_attached = false;
    }
    Ok(())
}

pub(super) async fn execute(
    connection: &mut PgConnection,
    statement: String,
) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    statement.execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_found_again_by_the_name_of_its_table() {
        assert_eq!(Table::Orders.part_of(Day(0)), "orders_19700101");
        for table in Table::ALL {
            for day in [0, 1, 20_000, 20_777].map(Day) {
                let part = table.part_of(day);
                assert_eq!(table.days_of(&part), Some((day, day)), "{part}");
            }
        }
        assert_eq!(Table::Orders.days_of("orders_2026"), None);
        assert_eq!(Table::Orders.days_of("inventory_ledger_20260101"), None);
    }

    #[test]
    fn what_was_there_before_the_days_holds_all_until_its_last() {
        let name = "inventory_ledger_19700102_19700104".to_owned();
        let (first, last) = Table::Ledger.days_of(&name).unwrap_or((Day(0), Day(0)));
        let parts = [Part {
            name,
            first,
            last,
            is_attached: true,
            is_pending: false,
        }];
        let covered = [0, 1, 2, 3, 4].map(|day| covers(&parts, Day(day)));
        assert_eq!(covered, [false, true, true, true, false]);
    }
}
