//! The care of the tables of webhooks, by the process that copies: it counts what waits, removes what is finished, ends
//! what can no longer be sent, and encrypts secrets anew after a rotation of `ORDER_ID_SECRET`.
//!
//! Everything goes in bounded steps, between two steps of copying.

use std::time::Duration;

use hotrow_shared::{
    metrics::{WEBHOOK_OLDEST_DUE, WEBHOOK_WAITING, WEBHOOKS_DISABLED},
    sealed::SealingKeys,
    webhook::{DisabledReason, FINISHED_KEPT},
};
use metrics::Gauge;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics::Labelled;

/// Deliveries that may wait, without those of endpoints for which no more may. While more do, nothing is copied: the
/// stream keeps events for days.
const WAITING_MAX: i64 = 1_000_000;
/// How many of them may be of one endpoint then. What comes on top fails at once: a slow endpoint does not hold up the
/// copying for all others either.
const WAITING_FOR_ONE_MAX: i64 = WAITING_MAX / 4;
/// Deliveries that may wait for an endpoint to which nothing was delivered for [`DEAD_AFTER_MINUTES`]. What comes on
/// top fails at once, so that a dead endpoint does not hold up the copying for all others.
const WAITING_FOR_DEAD_MAX: i64 = 100_000;
const DEAD_AFTER_MINUTES: i32 = 60;
/// How often it is counted, unless that is more than a twentieth of the time.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
const COUNT_SHARE: u32 = 20;
/// How often the rest is looked after while there is little of it.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// How often secrets are looked at.
const SECRETS_INTERVAL: Duration = Duration::from_mins(1);
/// Rows of one step.
const ROWS_MAX: i64 = 5_000;

/// Looks after the tables.
pub(super) struct Upkeep {
    keys: SealingKeys,
    count_at: Instant,
    tidy_at: Instant,
    secrets_at: Instant,
    waits_too_much: bool,
    overflowing: Vec<Uuid>,
    waiting: Gauge,
    oldest_due: Gauge,
    disabled: Labelled<DisabledReason, Gauge>,
}

impl Upkeep {
    /// Encrypts anew by these keys. Creates every series.
    pub(super) fn new(keys: SealingKeys) -> Self {
        let now = Instant::now();
        Self {
            keys,
            count_at: now,
            tidy_at: now,
            secrets_at: now,
            waits_too_much: false,
            overflowing: Vec::new(),
            waiting: WEBHOOK_WAITING.gauge(&[]),
            oldest_due: WEBHOOK_OLDEST_DUE.gauge(&[]),
            disabled: Labelled::new(DisabledReason::ALL, |it| {
                WEBHOOKS_DISABLED.gauge(&[("reason", it.as_str())])
            }),
        }
    }

    /// Whether so much waits that nothing should be added.
    pub(super) fn is_too_much_waiting(&self) -> bool {
        self.waits_too_much
    }

    /// The endpoints for which no more may wait.
    pub(super) fn overflowing(&self) -> &[Uuid] {
        &self.overflowing
    }

    /// Another process looks after the tables.
    pub(super) fn rest(&mut self) {
        self.waiting.set(0.0);
        self.oldest_due.set(0.0);
        for reason in DisabledReason::ALL {
            if let Some(gauge) = self.disabled.of(reason) {
                gauge.set(0.0);
            }
        }
    }

    /// Does what is due, a step of each.
    pub(super) async fn look(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        if now >= self.count_at {
            self.count(session).await?;
            let pause = (now.elapsed() * COUNT_SHARE).max(COUNT_INTERVAL);
            self.count_at = Instant::now() + pause;
        }
        if now >= self.secrets_at {
            forget_secrets(session).await?;
            self.seal_anew(session).await?;
            self.secrets_at = now + SECRETS_INTERVAL;
        }
        if now >= self.tidy_at {
            let has_more = tidy(session).await?;
            let pause = if has_more {
                Duration::ZERO
            } else {
                TIDY_INTERVAL
            };
            self.tidy_at = now + pause;
        }
        Ok(())
    }

    async fn count(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let waiting = waiting(session).await?;
        let all: i64 = waiting.iter().map(|it| it.count).sum();
        self.waiting.set(approximately(all));
        let (overflowing, waits_too_much) = judge(&waiting);
        self.overflowing = overflowing;
        if waits_too_much != self.waits_too_much {
            self.waits_too_much = waits_too_much;
            tracing::warn!(
                waiting = all,
                "copying events to webhooks {}",
                if waits_too_much {
                    "pauses: too many deliveries wait"
                } else {
                    "goes on"
                }
            );
        }
        self.oldest_due
            .set(oldest_due_seconds(session).await?.max(0.0));
        let disabled = disabled(session).await?;
        for reason in DisabledReason::ALL {
            let count = disabled.iter().find(|it| it.reason == reason.as_str());
            if let Some(gauge) = self.disabled.of(reason) {
                gauge.set(approximately(count.map_or(0, |it| it.endpoints)));
            }
        }
        Ok(())
    }

    /// Encrypts by the current key what the previous one encrypted.
    async fn seal_anew(&self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let rows = sqlx::query!("select id, secret, previous_secret from webhooks")
            .fetch_all(&mut *session)
            .await?;
        for row in rows {
            let (secret, previous) = (
                self.sealed_anew(row.id, Some(&row.secret)),
                self.sealed_anew(row.id, row.previous_secret.as_deref()),
            );
            if secret.is_none() && previous.is_none() {
                continue;
            }
            // Not what was rotated meanwhile.
            sqlx::query!(
                r#"
                update webhooks
                set secret = coalesce($2, secret), previous_secret = coalesce($3, previous_secret)
                where id = $1 and secret = $4 and previous_secret is not distinct from $5
                "#,
                row.id,
                secret,
                previous,
                row.secret,
                row.previous_secret,
            )
            .execute(&mut *session)
            .await?;
            tracing::info!(endpoint = %row.id, "the secret of an endpoint is encrypted anew");
        }
        Ok(())
    }

    fn sealed_anew(&self, endpoint: Uuid, sealed: Option<&[u8]>) -> Option<Vec<u8>> {
        // What cannot be opened is told of where it is needed.
        let opened = self.keys.open(sealed?, endpoint.as_bytes()).ok()?;
        if opened.is_current {
            return None;
        }
        self.keys.seal(&opened.secret, endpoint.as_bytes()).ok()
    }
}

fn approximately(count: i64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What waits for an endpoint.
struct Waiting {
    endpoint_id: Uuid,
    count: i64,
    /// Nothing was delivered to it for long.
    is_dead: bool,
}

/// The endpoints for which no more may wait, and whether too much waits for the others.
fn judge(waiting: &[Waiting]) -> (Vec<Uuid>, bool) {
    let is_full = waiting.iter().map(|it| it.count).sum::<i64>() >= WAITING_MAX;
    let overflows = |it: &&Waiting| {
        (it.is_dead && it.count >= WAITING_FOR_DEAD_MAX)
            || (is_full && it.count >= WAITING_FOR_ONE_MAX)
    };
    let (overflowing, others): (Vec<_>, Vec<_>) = waiting.iter().partition(overflows);
    let left = others.iter().map(|it| it.count).sum::<i64>();
    let ids = overflowing.iter().map(|it| it.endpoint_id).collect();
    (ids, left >= WAITING_MAX)
}

/// Counts what waits, as far as it has to be counted.
async fn waiting(session: &mut PgConnection) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        select webhooks.id as endpoint_id, counted.count as "count!",
               coalesce(failing_since < now() - make_interval(mins => $2), false) as "is_dead!"
        from webhooks
        cross join lateral (
            select count(*) as count
            from (
                select from webhook_deliveries
                where endpoint_id = webhooks.id and finished_at is null
                limit $1
            ) as waiting
        ) as counted
        "#,
        WAITING_MAX,
        DEAD_AFTER_MINUTES,
    )
    .fetch_all(session)
    .await
}

async fn oldest_due_seconds(session: &mut PgConnection) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from now() - min(oldest.due_at)), 0)::float8 as "seconds!"
        from webhooks
        cross join lateral (
            select next_at as due_at from webhook_deliveries
            where endpoint_id = webhooks.id and finished_at is null and next_at <= now()
            order by next_at
            limit 1
        ) as oldest
        where webhooks.state = 'enabled' and (paused_until is null or paused_until <= now())
        "#
    )
    .fetch_one(session)
    .await
}

struct Disabled {
    reason: String,
    endpoints: i64,
}

async fn disabled(session: &mut PgConnection) -> Result<Vec<Disabled>, sqlx::Error> {
    sqlx::query_as!(
        Disabled,
        r#"
        select disabled_reason as "reason!", count(*) as "endpoints!" from webhooks
        where state = 'disabled'
        group by disabled_reason
        "#
    )
    .fetch_all(session)
    .await
}

/// Takes a step of everything that is to be ended or removed. Returns whether there may be more.
async fn tidy(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let steps = [
        end_what_cannot_be_sent(session).await?,
        remove_finished(session).await?,
        remove_deleted(session).await?,
    ];
    Ok(steps.into_iter().max() >= Some(ROWS_MAX.unsigned_abs()))
}

/// Nothing is sent to a disabled endpoint, and what waited for it would wait for ever.
async fn end_what_cannot_be_sent(session: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let ended = sqlx::query!(
        r#"
        update webhook_deliveries as delivery
        set state = 'failed', outcome = 'disabled', finished_at = now(), leased_until = null
        from (
            select waiting.endpoint_id, waiting.id
            from webhooks
            cross join lateral (
                select endpoint_id, id from webhook_deliveries
                where endpoint_id = webhooks.id and finished_at is null
                  and (leased_until is null or leased_until <= now())
                limit $1
                for update skip locked
            ) as waiting
            where webhooks.state = 'disabled'
            limit $1
        ) as waiting
        where delivery.endpoint_id = waiting.endpoint_id and delivery.id = waiting.id
        "#,
        ROWS_MAX
    )
    .execute(session)
    .await?;
    Ok(ended.rows_affected())
}

async fn remove_finished(session: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        delete from webhook_deliveries
        where ctid = any(array(
            select ctid from webhook_deliveries
            where finished_at < now() - make_interval(secs => $2)
            order by finished_at
            limit $1
            for update skip locked
        ))
        "#,
        ROWS_MAX,
        FINISHED_KEPT.as_seconds_f64(),
    )
    .execute(session)
    .await?;
    Ok(removed.rows_affected())
}

/// Removes the deliveries of deleted endpoints, and then these.
async fn remove_deleted(session: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        delete from webhook_deliveries
        where ctid = any(array(
            select delivery.ctid
            from webhooks join webhook_deliveries as delivery on delivery.endpoint_id = webhooks.id
            where webhooks.state = 'deleted'
            limit $1
            for update of delivery skip locked
        ))
        "#,
        ROWS_MAX
    )
    .execute(&mut *session)
    .await?;
    sqlx::query!(
        r#"
        delete from webhooks
        where state = 'deleted'
          and not exists (select from webhook_deliveries as delivery where delivery.endpoint_id = webhooks.id)
        "#
    )
    .execute(session)
    .await?;
    Ok(removed.rows_affected())
}

/// Removes secrets that sign no more.
async fn forget_secrets(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update webhooks set previous_secret = null, previous_secret_until = null
        where previous_secret_until <= now()
        "#
    )
    .execute(session)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(count: i64, is_dead: bool) -> Waiting {
        Waiting {
            endpoint_id: Uuid::new_v4(),
            count,
            is_dead,
        }
    }

    #[test]
    fn a_dead_endpoint_neither_pauses_the_copying_nor_keeps_it_from_pausing() {
        let dead = || waiting(100_000, true);
        let slow = |count| (0..count).map(|_| waiting(100_000, false));
        let judged = |all: Vec<Waiting>| {
            let (overflowing, pauses) = judge(&all);
            (overflowing.len(), pauses)
        };
        assert_eq!(judged(vec![waiting(99_999, true)]), (0, false));
        assert_eq!(judged(vec![dead()]), (1, false));
        assert_eq!(judged(slow(9).chain([dead()]).collect()), (1, false));
        assert_eq!(judged(slow(10).chain([dead()]).collect()), (1, true));
        assert_eq!(judged(vec![waiting(999_999, false)]), (0, false));
        assert_eq!(judged(vec![waiting(1_000_000, false)]), (1, false));
        let quarters = (0..4).map(|_| waiting(250_000, false));
        assert_eq!(judged(quarters.collect()), (4, false));
    }
}
