//! The advisory locks that stand for presence and ownership.

use sqlx::PgConnection;

use super::plan::Attendance;

/// The class of Hotrow's advisory locks for ownership ("row!"); the key is a partition, or presence.
const LOCK_CLASS: i32 = 0x726f_7721;

/// The key of the lock that stands for a worker's presence.
const PRESENCE: i32 = -1;

/// Takes the lock that says that this worker is there.
pub(super) async fn appear(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select pg_advisory_lock_shared($1, $2)",
        LOCK_CLASS,
        PRESENCE
    )
    .execute(session)
    .await?;
    Ok(())
}

pub(super) async fn disappear(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "select pg_advisory_unlock_shared($1, $2)",
        LOCK_CLASS,
        PRESENCE
    )
    .fetch_one(session)
    .await?;
    Ok(())
}

/// Asks who is there. Every worker sees the same list, so that their shares add up to the whole.
pub(super) async fn attendance(session: &mut PgConnection) -> Result<Attendance, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where pid < pg_backend_pid()) as "rank!", count(*) as "workers!"
        from pg_locks
        where locktype = 'advisory'
          and database = (select oid from pg_database where datname = current_database())
          and classid::bigint = $1 and objid::bigint = $2 and objsubid = 2
          and granted
        "#,
        i64::from(LOCK_CLASS),
        // An oid is unsigned.
        i64::from(PRESENCE.cast_unsigned()),
    )
    .fetch_one(session)
    .await?;
    Ok(Attendance {
        rank: usize::try_from(row.rank).unwrap_or_default(),
        workers: usize::try_from(row.workers).unwrap_or_default(),
    })
}

/// Locks up to `most` of the given partitions, those that nobody else holds.
pub(super) async fn try_lock(
    session: &mut PgConnection,
    partitions: &[u16],
    most: usize,
) -> Result<Vec<u16>, sqlx::Error> {
    let wanted: Vec<_> = partitions
        .iter()
        .map(|partition| i32::from(*partition))
        .collect();
    // The limit ends the scan, so that no more locks are taken than are reported.
    let locked = sqlx::query_scalar!(
        r#"
        select partition as "partition!"
        from unnest($2::integer[]) as wanted (partition)
        where pg_try_advisory_lock($1, partition)
        limit $3
        "#,
        LOCK_CLASS,
        &wanted,
        i64::try_from(most).unwrap_or(i64::MAX),
    )
    .fetch_all(session)
    .await?;
    Ok(locked
        .into_iter()
        .filter_map(|partition| u16::try_from(partition).ok())
        .collect())
}

pub(super) async fn unlock(session: &mut PgConnection, partition: u16) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "select pg_advisory_unlock($1, $2)",
        LOCK_CLASS,
        i32::from(partition)
    )
    .fetch_one(session)
    .await?;
    Ok(())
}
