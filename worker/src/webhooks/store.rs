//! Every statement about endpoints and deliveries, but for those that copy and tidy.
//!
//! A claim locks the row of its endpoint first, so that claims of one endpoint follow each other and count what is under
//! way as it is. It skips deliveries that others have locked: those who note what became of attempts have deliveries
//! locked when they ask for their endpoint.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hotrow_shared::webhook::{DisabledReason, Endpoint};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::attempt::{Next, Outcome};

/// How long an attempt belongs to who claimed it: longer than a request takes, and as long as an endpoint waits for the
/// deliveries of a process that died.
const LEASE_SECONDS: f64 = 30.0;
/// So many deliveries have to be given up before an endpoint is disabled, and so many days of failures have to pass.
const GIVEN_UP_MIN: i64 = 100;
const FAILING_DAYS_MIN: i32 = 5;

/// The endpoints that have something due.
pub(super) async fn due_endpoints(pool: &PgPool) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select id from webhooks
        where state = 'enabled' and (paused_until is null or paused_until <= now())
          and exists (
              select from webhook_deliveries as due
              where due.endpoint_id = webhooks.id and due.finished_at is null and due.next_at <= now()
          )
        "#
    )
    .fetch_all(pool)
    .await
}

/// An endpoint that is locked for a claim. It has no `Debug`.
pub(super) struct Locked {
    pub(super) url: String,
    pub(super) secret: Vec<u8>,
    pub(super) previous_secret: Option<Vec<u8>>,
    pub(super) is_failing: bool,
}

/// Locks an endpoint, if anything may be sent to it now.
pub(super) async fn lock(
    connection: &mut PgConnection,
    endpoint: Uuid,
) -> Result<Option<Locked>, sqlx::Error> {
    sqlx::query_as!(
        Locked,
        r#"
        select url, secret, case when previous_secret_until > now() then previous_secret end as previous_secret,
               failing_since is not null as "is_failing!"
        from webhooks
        where id = $1 and state = 'enabled' and (paused_until is null or paused_until <= now())
        for no key update
        "#,
        endpoint
    )
    .fetch_optional(connection)
    .await
}

/// A delivery that is ours until its lease ends.
pub(super) struct Claimed {
    pub(super) id: i64,
    pub(super) event_id: String,
    pub(super) event: String,
    pub(super) attempts: i32,
    /// When the lease ends, which also says whose it is.
    pub(super) lease: DateTime<Utc>,
}

/// Claims what is due longest, in a statement behind [`lock`]. No more than `all_max` are under way, whoever has them.
pub(super) async fn claim(
    connection: &mut PgConnection,
    endpoint: Uuid,
    room: i64,
    all_max: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"
        with lease as materialized (select clock_timestamp() + make_interval(secs => $4) as until),
        under_way as materialized (
            select count(*) as count from webhook_deliveries
            where endpoint_id = $1 and leased_until is not null and leased_until > now()
        ),
        due as (
            select id from webhook_deliveries
            where endpoint_id = $1 and finished_at is null and next_at <= now()
            order by next_at
            limit (select least($2, greatest($3 - count, 0)) from under_way)
            for update skip locked
        )
        update webhook_deliveries as delivery
        set leased_until = lease.until, next_at = lease.until
        from lease, due
        where delivery.endpoint_id = $1 and delivery.id = due.id
        returning delivery.id, delivery.event_id, delivery.event::text as "event!", delivery.attempts,
                  delivery.leased_until as "lease!"
        "#,
        endpoint,
        room,
        all_max,
        LEASE_SECONDS,
    )
    .fetch_all(connection)
    .await
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: i64,
    pub(super) lease: DateTime<Utc>,
    /// Where it was sent.
    pub(super) url: Arc<str>,
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    pub(super) next: Next,
}

/// What ended attempts mean for their endpoint.
#[derive(Debug)]
pub(super) struct Effect {
    /// Whether any was delivered, which forgets all failures before.
    pub(super) has_delivered: bool,
    pub(super) given_up: i64,
    /// For how many seconds the endpoint is left alone.
    pub(super) pause_seconds: Option<f64>,
    /// It wants no more.
    pub(super) is_gone: bool,
    /// Where they were sent. An endpoint whose URL has changed since is left as it is.
    pub(super) url: Arc<str>,
}

/// Writes what became of attempts. One whose lease somebody else has by now is counted, and what the other makes of the
/// delivery stands, unless it is delivered.
pub(super) async fn finish(
    executor: impl PgExecutor<'_>,
    endpoint: Uuid,
    ended: &[Ended],
) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = ended.iter().map(|it| it.id).collect();
    let leases: Vec<_> = ended.iter().map(|it| it.lease).collect();
    let outcomes: Vec<_> = ended.iter().map(|it| it.outcome.as_str()).collect();
    let number = |it: &Ended| it.status.and_then(|status| i16::try_from(status).ok());
    let numbers: Vec<_> = ended.iter().map(number).collect();
    let states: Vec<_> = ended.iter().map(|it| state(it.next)).collect();
    let waits: Vec<_> = ended.iter().map(|it| wait_seconds(it.next)).collect();
    sqlx::query!(
        r#"
        update webhook_deliveries as delivery
        set attempts = attempts + 1, outcome = ended.outcome, status = ended.status,
            (leased_until, state, next_at, finished_at) = (
                select leased_until, delivery.state, next_at, null
                where delivery.leased_until is distinct from ended.lease and ended.state <> 'delivered'
                union all
                select null, ended.state, now() + make_interval(secs => ended.wait),
                       case when ended.state <> 'pending' then now() end
                where delivery.leased_until is not distinct from ended.lease or ended.state = 'delivered'
            )
        from unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::smallint[], $6::text[], $7::float8[])
            as ended (id, lease, outcome, status, state, wait)
        where delivery.endpoint_id = $1 and delivery.id = ended.id and delivery.finished_at is null
        "#,
        endpoint,
        &ids,
        &leases,
        &outcomes as &[&str],
        &numbers as &[Option<i16>],
        &states as &[&str],
        &waits,
    )
    .execute(executor)
    .await?;
    Ok(())
}

const fn state(next: Next) -> &'static str {
    match next {
        Next::Delivered => "delivered",
        Next::Again(_) => "pending",
        Next::GivenUp => "failed",
    }
}

const fn wait_seconds(next: Next) -> f64 {
    match next {
        Next::Again(wait) => wait.as_secs_f64(),
        Next::Delivered | Next::GivenUp => 0.0,
    }
}

/// Notes what attempts mean for their endpoint, and disables it if its time has come: then it is returned.
pub(super) async fn note(
    connection: &mut PgConnection,
    endpoint: Uuid,
    effect: &Effect,
) -> Result<Option<Endpoint>, sqlx::Error> {
    sqlx::query!(
        r#"
        update webhooks
        set failing_since = case when $2 then null else coalesce(failing_since, now()) end,
            given_up = case when $2 then 0 else given_up + $3 end,
            paused_until = greatest(paused_until, now() + make_interval(secs => $4))
        where id = $1 and state = 'enabled' and url = $5
        "#,
        endpoint,
        effect.has_delivered,
        effect.given_up,
        effect.pause_seconds,
        &*effect.url,
    )
    .execute(&mut *connection)
    .await?;
    let reason = if effect.is_gone {
        DisabledReason::Gone
    } else {
        DisabledReason::Failing
    };
    sqlx::query_as!(
        Endpoint,
        r#"
        update webhooks
        set state = 'disabled', disabled_at = now(), disabled_reason = $2, updated_at = now()
        where id = $1 and state = 'enabled' and url = $6
          and ($3 or (given_up >= $4 and failing_since <= now() - make_interval(days => $5)))
        returning id, url, types, description, false as "enabled!", disabled_at, disabled_reason,
                  previous_secret_until, created_at, updated_at
        "#,
        endpoint,
        reason.as_str(),
        effect.is_gone,
        GIVEN_UP_MIN,
        FAILING_DAYS_MIN,
        &*effect.url,
    )
    .fetch_optional(connection)
    .await
}

/// Gives back what was claimed and not sent, or not heard of, so that others need not wait for the leases.
pub(super) async fn release(
    pool: &PgPool,
    endpoint: Uuid,
    claimed: &[(i64, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    let (ids, leases): (Vec<_>, Vec<_>) = claimed.iter().copied().unzip();
    sqlx::query!(
        r#"
        update webhook_deliveries as delivery
        set leased_until = null, next_at = now()
        from unnest($2::bigint[], $3::timestamptz[]) as claimed (id, lease)
        where delivery.endpoint_id = $1 and delivery.id = claimed.id and delivery.leased_until = claimed.lease
        "#,
        endpoint,
        &ids,
        &leases,
    )
    .execute(pool)
    .await?;
    Ok(())
}
