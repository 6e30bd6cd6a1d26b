//! All SQL of endpoints and of what administrators do with their deliveries. `hotrow-worker webhooks` writes the rest.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    event::write_to_outbox,
    outcome::{timestamp, timestamp_if_any},
    webhook::{DisabledReason, ENDPOINTS_MAX, Endpoint, ROTATION, TEST_EVENT, webhook_id},
};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::bodies::{Description, NewEndpoint, Patch, Replay};
use crate::audit::{self, By};

/// Deliveries of one step of a replay.
const STEP_ROWS: i64 = 5_000;

/// Registers an endpoint, or not if there are [`ENDPOINTS_MAX`]. (Two at the same moment may make it one more.)
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn create(
    pool: &PgPool,
    by: &By,
    id: Uuid,
    endpoint: &NewEndpoint,
    secret: &[u8],
) -> Result<Option<Endpoint>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // Events carry milliseconds: one of this very millisecond is not older.
    let created = sqlx::query_as!(
        Endpoint,
        r#"
        insert into webhooks (id, url, types, description, secret, events_since, created_at, updated_at)
        select $1, $2, $3, $4, $5, date_trunc('milliseconds', now()), now(), now()
        where (select count(*) from webhooks where state <> 'deleted') < $6
        returning id, url, types, description, true as "enabled!", disabled_at, disabled_reason,
                  previous_secret_until, created_at, updated_at
        "#,
        id,
        endpoint.target.url,
        &endpoint.types,
        endpoint.description,
        secret,
        i64::try_from(ENDPOINTS_MAX).unwrap_or(i64::MAX),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(endpoint) = &created {
        record(
            &mut transaction,
            by,
            "webhook.create",
            id,
            None,
            Some(endpoint),
        )
        .await?;
    }
    transaction.commit().await?;
    Ok(created)
}

/// Records a change of an endpoint, in its transaction. Its secret is in neither state.
async fn record(
    connection: &mut PgConnection,
    by: &By,
    action: &'static str,
    id: Uuid,
    before: Option<&Endpoint>,
    after: Option<&Endpoint>,
) -> Result<(), sqlx::Error> {
    let entry = audit::Entry {
        action,
        subject: &id.to_string(),
        before: before.and_then(audit::json),
        after: after.and_then(audit::json),
    };
    audit::record(connection, by, entry).await
}

/// Reads up to `limit` endpoints behind an id, by id.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn page(
    pool: &PgPool,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Endpoint>, sqlx::Error> {
    sqlx::query_as!(
        Endpoint,
        r#"
        select id, url, types, description, state = 'enabled' as "enabled!", disabled_at, disabled_reason,
               case when previous_secret_until > now() then previous_secret_until end as previous_secret_until,
               created_at, updated_at
        from webhooks
        where state <> 'deleted' and id > $1
        order by id
        limit $2
        "#,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Reads an endpoint.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn read(
    executor: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<Endpoint>, sqlx::Error> {
    sqlx::query_as!(
        Endpoint,
        r#"
        select id, url, types, description, state = 'enabled' as "enabled!", disabled_at, disabled_reason,
               case when previous_secret_until > now() then previous_secret_until end as previous_secret_until,
               created_at, updated_at
        from webhooks
        where state <> 'deleted' and id = $1
        "#,
        id,
    )
    .fetch_optional(executor)
    .await
}

/// Locks an endpoint and reads it.
async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<Option<Endpoint>, sqlx::Error> {
    sqlx::query!("select from webhooks where id = $1 for no key update", id)
        .fetch_optional(&mut *connection)
        .await?;
    read(connection, id).await
}

/// Changes what is named. Enabling forgets failures and what happened while it was disabled; disabling is told of by an
/// event of this `source`.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn patch(
    pool: &PgPool,
    by: &By,
    id: Uuid,
    change: &Patch,
    source: &str,
) -> Result<Option<Endpoint>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let Some(before) = lock(&mut transaction, id).await? else {
        return Ok(None);
    };
    let is_enabled = change.is_enabled.unwrap_or(before.enabled);
    let description = match &change.description {
        Description::Set(text) => Some(text.as_str()),
        Description::Keep | Description::Remove => None,
    };
    let endpoint = sqlx::query_as!(
        Endpoint,
        r#"
        update webhooks
        set url = coalesce($2, url), types = coalesce($3, types),
            description = case when $4 then $5 else description end,
            updated_at = now()
        where id = $1
        returning id, url, types, description, state = 'enabled' as "enabled!", disabled_at, disabled_reason,
                  previous_secret_until, created_at, updated_at
        "#,
        id,
        change.target.as_ref().map(|it| it.url.as_str()),
        change.types.as_deref(),
        change.description != Description::Keep,
        description,
    );
    let mut endpoint = endpoint.fetch_one(&mut *transaction).await?;
    if is_enabled != before.enabled {
        endpoint = turn(&mut transaction, id, is_enabled, source).await?;
    }
    let action = "webhook.patch";
    record(
        &mut transaction,
        by,
        action,
        id,
        Some(&before),
        Some(&endpoint),
    )
    .await?;
    transaction.commit().await?;
    Ok(Some(endpoint))
}

/// Enables or disables an endpoint.
async fn turn(
    connection: &mut PgConnection,
    id: Uuid,
    is_enabled: bool,
    source: &str,
) -> Result<Endpoint, sqlx::Error> {
    let endpoint = sqlx::query_as!(
        Endpoint,
        r#"
        update webhooks
        set state = case when $2 then 'enabled' else 'disabled' end,
            disabled_at = case when $2 then null else now() end,
            disabled_reason = case when $2 then null else $3 end,
            events_since = case when $2 then date_trunc('milliseconds', now()) else events_since end,
            paused_until = null, failing_since = null, given_up = 0
        where id = $1
        returning id, url, types, description, state = 'enabled' as "enabled!", disabled_at, disabled_reason,
                  previous_secret_until, created_at, updated_at
        "#,
        id,
        is_enabled,
        DisabledReason::ByAdmin.as_str(),
    )
    .fetch_one(&mut *connection)
    .await?;
    if let Some(at) = endpoint.disabled_at {
        let event = endpoint.disabled_event(source, at);
        let event = event.map_err(|error| sqlx::Error::Encode(error.into()))?;
        write_to_outbox(connection, at, &event).await?;
    }
    Ok(endpoint)
}

/// Removes an endpoint from sight. Its deliveries, which may be many, go a few at a time. Returns whether there was one.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn delete(pool: &PgPool, by: &By, id: Uuid) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let Some(before) = lock(&mut transaction, id).await? else {
        return Ok(false);
    };
    sqlx::query!(
        r#"
        update webhooks
        set state = 'deleted', disabled_at = null, disabled_reason = null, updated_at = now()
        where id = $1 and state <> 'deleted'
        "#,
        id
    )
    .execute(&mut *transaction)
    .await?;
    record(
        &mut transaction,
        by,
        "webhook.delete",
        id,
        Some(&before),
        None,
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Gives an endpoint another secret. The one before signs, too, for as long as a rotation lasts.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn rotate(
    pool: &PgPool,
    by: &By,
    id: Uuid,
    secret: &[u8],
) -> Result<Option<Endpoint>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let rotated = sqlx::query_as!(
        Endpoint,
        r#"
        update webhooks
        set previous_secret = secret, previous_secret_until = now() + make_interval(secs => $3), secret = $2,
            updated_at = now()
        where id = $1 and state <> 'deleted'
        returning id, url, types, description, state = 'enabled' as "enabled!", disabled_at, disabled_reason,
                  previous_secret_until, created_at, updated_at
        "#,
        id,
        secret,
        ROTATION.as_seconds_f64(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(endpoint) = &rotated {
        let action = "webhook.rotate_secret";
        record(&mut transaction, by, action, id, None, Some(endpoint)).await?;
    }
    transaction.commit().await?;
    Ok(rotated)
}

/// What became of an event at one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub(super) struct Delivery {
    /// By which the list is paged.
    pub(super) id: i64,
    /// The id of the event.
    pub(super) event_id: String,
    /// The header `webhook-id` of its requests.
    webhook_id: String,
    /// The type of the event.
    r#type: String,
    /// Such as `pending`, `delivered` or `failed`. Words may be added.
    state: String,
    /// How often it was tried.
    #[schema(minimum = 0)]
    attempts: i32,
    /// When it is tried next; null once it is finished.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    next_attempt_at: Option<DateTime<Utc>>,
    /// What came of the last attempt, in a word.
    #[schema(required)]
    outcome: Option<String>,
    /// The status that the endpoint answered last.
    #[schema(required)]
    status: Option<i16>,
    /// When the event happened.
    #[serde(serialize_with = "timestamp")]
    event_time: DateTime<Utc>,
    /// When it was delivered or given up.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    finished_at: Option<DateTime<Utc>>,
}

/// Reads up to `limit` deliveries of an endpoint, the latest first, those behind an id.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn deliveries(
    pool: &PgPool,
    endpoint: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select id, event_id, type, state, attempts, case when finished_at is null then next_at end as next_attempt_at,
               outcome, status, event_time, finished_at
        from webhook_deliveries
        where endpoint_id = $1 and id < $2
        order by id desc
        limit $3
        "#,
        endpoint,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let delivery = rows.into_iter().map(|row| Delivery {
        id: row.id,
        webhook_id: webhook_id(&row.event_id),
        event_id: row.event_id,
        r#type: row.r#type,
        state: row.state,
        attempts: row.attempts,
        next_attempt_at: row.next_attempt_at,
        outcome: row.outcome,
        status: row.status,
        event_time: row.event_time,
        finished_at: row.finished_at,
    });
    Ok(delivery.collect())
}

/// Queues an event for one endpoint, if it is enabled.
///
/// # Errors
/// The database is out of reach, or did not say whether it is done.
pub(super) async fn queue_test(
    pool: &PgPool,
    endpoint: Uuid,
    event_id: &str,
    event: &str,
    at: DateTime<Utc>,
) -> Result<Option<Delivery>, sqlx::Error> {
    // Whoever disables or deletes the endpoint waits for this, and then finds the delivery.
    let row = sqlx::query!(
        r#"
        with endpoint as (select id from webhooks where id = $1 and state = 'enabled' for share)
        insert into webhook_deliveries (endpoint_id, event_id, type, event_time, event, next_at)
        select id, $2, $3, $4, $5::text::json, now() from endpoint
        returning id, next_at
        "#,
        endpoint,
        event_id,
        TEST_EVENT,
        at,
        event,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Delivery {
        id: row.id,
        event_id: event_id.to_owned(),
        webhook_id: webhook_id(event_id),
        r#type: TEST_EVENT.to_owned(),
        state: "pending".to_owned(),
        attempts: 0,
        next_attempt_at: Some(row.next_at),
        outcome: None,
        status: None,
        event_time: at,
        finished_at: None,
    }))
}

/// Queues finished deliveries of events of a span of time again, a step after the other. Returns how many.
///
/// # Errors
/// The database is out of reach: some may be queued.
pub(super) async fn replay(
    pool: &PgPool,
    by: &By,
    endpoint: Uuid,
    replay: &Replay,
) -> Result<i64, sqlx::Error> {
    // First, because it may be cut off: some are queued then.
    let entry = audit::Entry {
        action: "webhook.replay",
        subject: &endpoint.to_string(),
        before: None,
        after: audit::json(replay),
    };
    audit::record(&mut *pool.acquire().await?, by, entry).await?;
    let mut queued = 0;
    let mut after = 0;
    loop {
        // What is delivered meanwhile lies behind us.
        let step = sqlx::query!(
            r#"
            with step as (
                select id from webhook_deliveries
                where endpoint_id = $1 and id > $2
                order by id
                limit $3
            ),
            queued as (
                update webhook_deliveries as delivery
                set state = 'pending', attempts = 0, next_at = now(), finished_at = null, outcome = null, status = null
                from step
                where delivery.endpoint_id = $1 and delivery.id = step.id and delivery.finished_at is not null
                  and delivery.event_time >= $4 and delivery.event_time < coalesce($5, now())
                  and (delivery.state = 'failed' or not $6)
                  and exists (select from webhooks where id = $1 and state = 'enabled')
                returning 1
            )
            select (select count(*) from queued) as "queued!", (select count(*) from step) as "looked_at!",
                   (select max(id) from step) as last
            "#,
            endpoint,
            after,
            STEP_ROWS,
            replay.since,
            replay.until,
            replay.is_of_failed_only,
        )
        .fetch_one(pool)
        .await?;
        queued += step.queued;
        match step.last {
            Some(last) if step.looked_at == STEP_ROWS => after = last,
            _ => return Ok(queued),
        }
    }
}
