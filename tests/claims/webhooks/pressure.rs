//! Claims about more deliveries than can be sent: whose they are, and who waits for them.

use std::time::Duration;

use hotrow_tests::wait;
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::{A_WHILE, Stage, event};

/// Makes so many deliveries of events of this name that are not due for an hour.
async fn pile_up(database: &PgPool, endpoint: Uuid, name: &str, count: i32) -> anyhow::Result<()> {
    sqlx::query(
        "insert into webhook_deliveries (endpoint_id, event_id, type, event_time, event, next_at)
         select $1, $3 || '/' || number, 'order.confirmed', now(), '{}', now() + interval '1 hour'
         from generate_series(1, $2) as number",
    )
    .bind(endpoint)
    .bind(count)
    .bind(name)
    .execute(database)
    .await?;
    Ok(())
}

/// What became of an event at an endpoint.
async fn outcome(database: &PgPool, endpoint: Uuid, event: &str) -> Option<String> {
    let outcome = "select outcome from webhook_deliveries where endpoint_id = $1 and event_id = $2";
    let outcome = sqlx::query_scalar::<_, Option<String>>(outcome)
        .bind(endpoint)
        .bind(event);
    outcome.fetch_optional(database).await.ok()??
}

#[tokio::test]
async fn what_comes_for_a_dead_endpoint_with_100_000_waiting_fails_and_others_get_it()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let (dead, well) = (
        stage.register("/status/500").await?,
        stage.register("/ok").await?,
    );
    pile_up(&stage.database, dead.id, "old", 100_000).await?;
    sqlx::query("update webhooks set failing_since = now() - interval '2 hours' where id = $1")
        .bind(dead.id)
        .execute(&stage.database)
        .await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.receive("/ok", 1).await?;
    let overflowed = outcome(&stage.database, dead.id, "a/1").await;
    assert_eq!(overflowed.as_deref(), Some("overflow"));
    let delivered = wait::until("the delivery", A_WHILE, async || {
        outcome(&stage.database, well.id, "a/1").await
    });
    assert_eq!(delivered.await?, "delivered");
    Ok(())
}

#[tokio::test]
#[ignore = "makes a million deliveries"]
async fn a_million_that_wait_pause_the_copying_unless_one_endpoint_has_a_quarter_of_them()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let mut slow = Vec::new();
    for number in 0..5 {
        let endpoint = stage.register(&format!("/slow/{number}")).await?;
        pile_up(&stage.database, endpoint.id, "old", 200_000).await?;
        slow.push(endpoint.id);
    }
    let well = stage.register("/ok").await?;
    let webhooks = stage.webhooks().start().await?;
    wait::until("the copying to pause", A_WHILE, async || {
        webhooks
            .has_logged("too many deliveries wait")
            .then_some(())
    })
    .await?;
    stage.publish(&[event("a/1")]).await?;
    // The process that copies looks every second, and would have it by now.
    sleep(Duration::from_secs(4)).await;
    let copied = "select count(*) from webhook_deliveries where event_id = 'a/1'";
    let copied: i64 = sqlx::query_scalar(copied)
        .fetch_one(&stage.database)
        .await?;
    assert_eq!(copied, 0, "copying pauses");
    // One of them now has a quarter, and the others go on.
    pile_up(&stage.database, slow[0], "more", 50_000).await?;
    stage.receive("/ok", 1).await?;
    let overflowed = outcome(&stage.database, slow[0], "a/1").await;
    assert_eq!(overflowed.as_deref(), Some("overflow"));
    let others = "select state from webhook_deliveries where endpoint_id = $1 and event_id = 'a/1'";
    let others: String = sqlx::query_scalar(others)
        .bind(slow[1])
        .fetch_one(&stage.database)
        .await?;
    assert_ne!(others, "failed", "it has room");
    stage.reach(&well, "delivered", 1).await
}
