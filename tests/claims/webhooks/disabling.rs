//! Claims about endpoints that nothing is sent to any more.

use anyhow::ensure;
use hotrow_tests::{Settings, wait};
use serde_json::json;

use super::{A_WHILE, Registered, Stage, event, events};

impl Stage {
    /// Waits until an endpoint is disabled, and gives its document.
    async fn disabled(&self, endpoint: &Registered) -> anyhow::Result<serde_json::Value> {
        let path = format!("/{}", endpoint.id);
        wait::until("the endpoint to be disabled", A_WHILE, async || {
            let document = self.get(&path).await.ok()?;
            (document["enabled"] == false).then_some(document)
        })
        .await
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_disabled_and_everybody_hears_of_it()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let failing = stage.register("/status/500").await?;
    let watcher = json!({ "url": stage.receiver.url("/watcher"), "types": ["webhook.disabled"] });
    stage.post("", watcher).await?.expect(201)?;
    let _worker = Settings::worker(&stage.place)
        .set("PARTITIONS", "2")
        .start()
        .await?;
    let webhooks = stage.webhooks().start().await?;
    stage.publish(&events("a", 2)).await?;
    stage.all_tried(&failing, 2).await?;
    // The last attempt of one that is the hundredth to fail: but not for long enough.
    stage
        .sql(
            "update webhooks set given_up = 98, failing_since = now() - interval '4 days 23 hours'
             where url like '%500';
             update webhook_deliveries set attempts = 7, next_at = now() where event_id = 'a-0/1'",
        )
        .await?;
    stage.reach(&failing, "failed", 1).await?;
    let document = stage.get(&format!("/{}", failing.id)).await?;
    assert_eq!(document["enabled"], true, "{document}");
    // And now it is.
    stage
        .sql(
            "update webhooks set failing_since = now() - interval '5 days' where url like '%500';
             update webhook_deliveries set attempts = 7, next_at = now() where event_id = 'a-1/1'",
        )
        .await?;
    let document = stage.disabled(&failing).await?;
    assert_eq!(document["disabled_reason"], "failing", "{document}");
    assert!(document["disabled_at"].is_string(), "{document}");

    stage.receive("/watcher", 1).await?;
    let event = stage.receiver.received("/watcher").remove(0).event();
    assert_eq!(event["type"], "webhook.disabled");
    assert_eq!(event["data"], document);
    let id = event["id"].as_str().unwrap_or_default();
    ensure!(id.starts_with(&format!("{}/disabled/", failing.id)), "{id}");
    wait::until("the metric to count it", A_WHILE, async || {
        let metrics = webhooks.metrics().await.ok()?;
        let reason = [("reason", "failing")];
        (metrics.count("hotrow_webhooks_disabled", &reason) == 1).then_some(())
    })
    .await?;

    // Nothing more is sent, until somebody enables it.
    let test = stage
        .post(&format!("/{}/test", failing.id), json!({}))
        .await?;
    assert_eq!(
        (test.status.as_u16(), test.code().as_deref()),
        (409, Some("endpoint_disabled"))
    );
    let enabled = json!({ "enabled": true, "url": stage.receiver.url("/ok") });
    let document = stage.patch(&failing, enabled).await?.expect(200)?.json()?;
    assert_eq!(document["enabled"], true);
    assert!(document["disabled_at"].is_null() && document["disabled_reason"].is_null());
    stage.publish(&[super::event("b/1")]).await?;
    stage.receive("/ok", 1).await?;
    Ok(())
}

#[tokio::test]
async fn one_success_forgets_all_failures_before() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/status/500").await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&events("a", 2)).await?;
    stage.all_tried(&endpoint, 2).await?;
    stage
        .sql("update webhooks set given_up = 99, failing_since = now() - interval '6 days', url = replace(url, '500', '200');
              update webhook_deliveries set next_at = now() where event_id = 'a-0/1'")
        .await?;
    stage.reach(&endpoint, "delivered", 1).await?;
    stage
        .sql(
            "update webhooks set url = replace(url, '200', '500');
              update webhook_deliveries set attempts = 7, next_at = now() where event_id = 'a-1/1'",
        )
        .await?;
    stage.reach(&endpoint, "failed", 1).await?;
    let document = stage.get(&format!("/{}", endpoint.id)).await?;
    assert_eq!(document["enabled"], true, "{document}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_gone_gets_nothing_more() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let gone = stage.register("/status/500").await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&events("a", 5)).await?;
    stage.all_tried(&gone, 5).await?;
    stage
        .sql(
            "update webhooks set url = replace(url, '500', '410');
              update webhook_deliveries set next_at = now() where event_id = 'a-0/1'",
        )
        .await?;
    let document = stage.disabled(&gone).await?;
    assert_eq!(document["disabled_reason"], "gone");
    stage.reach(&gone, "failed", 5).await?;
    assert_eq!(stage.receiver.received("/status/410").len(), 1);
    let rows = stage.rows(&gone).await?;
    assert_eq!(rows["a-0/1"].outcome.as_deref(), Some("gone"));
    assert_eq!(rows["a-1/1"].outcome.as_deref(), Some("disabled"));
    // What happens meanwhile is not kept for it.
    stage.publish(&[event("b/1")]).await?;
    let other = stage.register("/ok").await?;
    stage.publish(&[event("c/1")]).await?;
    stage.reach(&other, "delivered", 1).await?;
    assert_eq!(stage.rows(&gone).await?.len(), 5);
    Ok(())
}
