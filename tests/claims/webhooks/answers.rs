//! Claims about deliveries: what is sent, and what follows from each answer.

use anyhow::ensure;
use chrono::TimeDelta;
use hotrow_tests::wait;
use serde_json::json;

use super::{A_WHILE, CONFIRMED, Stage, event, event_at, events, receiver::Receiver};

#[tokio::test]
async fn an_order_reaches_an_endpoint_signed_and_as_it_was_told() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let _worker = hotrow_tests::Settings::worker(&stage.place)
        .set("PARTITIONS", "2")
        .start()
        .await?;
    let _webhooks = stage.webhooks().start().await?;
    let chairs = hotrow_tests::client::Product::chairs(10);
    stage
        .client
        .put_inventory("chair", chairs)
        .await?
        .expect(201)?;
    let placed = stage.client.order("c-1", &[("chair", 1)]).await?;
    let order_id = placed.expect(202)?.order_id()?;
    stage.receive("/ok", 1).await?;

    let received = stage.receiver.received("/ok").remove(0);
    ensure!(received.is_signed_by(&endpoint.secret), "{received:?}");
    let event = received.event();
    assert_eq!(event["type"], CONFIRMED);
    assert_eq!(event["id"], format!("{order_id}/1"));
    let document = stage.client.settled(order_id, 20).await?.json()?;
    assert_eq!(event["data"], document);
    let content_type = received.header("content-type");
    assert_eq!(content_type, "application/cloudevents+json");
    let user_agent = received.header("user-agent");
    assert!(user_agent.starts_with("hotrow/"), "{user_agent}");
    let id = received.header("webhook-id");
    assert!(id.starts_with("evt_") && id.len() == 36, "{id}");
    assert_eq!(received.header("webhook-signature").split(' ').count(), 1);

    let page = stage.get(&format!("/{}/deliveries", endpoint.id)).await?;
    let delivery = &page["deliveries"][0];
    assert_eq!(delivery["webhook_id"], id);
    assert_eq!(delivery["event_id"], event["id"]);
    stage.reach(&endpoint, "delivered", 1).await?;
    let page = stage.get(&format!("/{}/deliveries", endpoint.id)).await?;
    let delivery = &page["deliveries"][0];
    assert_eq!(delivery["state"], "delivered", "{page}");
    assert_eq!(delivery["status"], 204);
    assert!(delivery["next_attempt_at"].is_null() && delivery["finished_at"].is_string());
    Ok(())
}

#[tokio::test]
async fn a_receiver_needs_a_certificate_that_somebody_vouches_for() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let (safe, certificate) = Receiver::start_tls().await?;
    let url = format!("https://localhost:{}/ok", safe.address.port());
    let body = json!({ "url": url, "types": [CONFIRMED] });
    let created = stage.post("", body).await?.expect(201)?.json()?;
    let secret = created["secret"].as_str().unwrap_or_default();
    stage.publish(&[event("a/1")]).await?;

    let unknown = stage.webhooks().start().await?;
    wait::until("the certificate to be refused", A_WHILE, async || {
        let metrics = unknown.metrics().await.ok()?;
        let refused = [("outcome", "tls")];
        (metrics.count("hotrow_webhook_attempts_total", &refused) == 1).then_some(())
    })
    .await?;
    assert!(safe.ids("/ok").is_empty());
    drop(unknown);

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("roots.pem");
    std::fs::write(&file, certificate)?;
    let file = file.display().to_string();
    let _known = stage.webhooks().set("SSL_CERT_FILE", file).start().await?;
    stage.make_due().await?;
    wait::until("the event to come", A_WHILE, async || {
        let received = safe.received("/ok");
        received.first().map(|it| it.is_signed_by(secret))
    })
    .await
    .map(|is_signed| assert!(is_signed))
}

#[tokio::test]
async fn each_answer_means_what_the_contract_says() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let expected = [
        // Path, state, outcome, status, and the least wait for the next attempt.
        ("/ok", "delivered", "delivered", Some(204), 0.0),
        ("/status/500", "pending", "http_5xx", Some(500), 4.0),
        ("/status/404", "pending", "http_4xx", Some(404), 4.0),
        ("/status/410", "failed", "gone", Some(410), 0.0),
        ("/later/120", "pending", "http_429", Some(429), 100.0),
        ("/redirect", "pending", "redirect", Some(307), 4.0),
        ("/hang", "pending", "timeout", None, 4.0),
        ("/big", "delivered", "delivered", Some(200), 0.0),
    ];
    let mut endpoints = Vec::new();
    for (path, ..) in expected {
        endpoints.push(stage.register(path).await?);
    }
    // Nobody listens there.
    let down = json!({ "url": "http://127.0.0.1:1/", "types": [CONFIRMED] });
    stage.post("", down).await?.expect(201)?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    for (endpoint, (path, state, outcome, status, least)) in endpoints.iter().zip(expected) {
        let row = stage.attempted(endpoint, 1).await?;
        let found = (row.state.as_str(), row.outcome.as_deref(), row.status);
        assert_eq!(found, (state, Some(outcome), status), "{path}");
        // On a slow machine the second attempt may have begun.
        let is_first = row.attempts == 1 && row.wait > 0.0;
        assert!(
            state != "pending" || !is_first || row.wait > least - 3.0,
            "{path}: {row:?}"
        );
        assert!(!stage.receiver.received(path).is_empty(), "{path}");
    }
    wait::until("the connection to fail", A_WHILE, async || {
        let refused = "select count(*) from webhook_deliveries where outcome = 'connection'";
        let count: i64 = sqlx::query_scalar(refused)
            .fetch_one(&stage.database)
            .await
            .ok()?;
        (count == 1).then_some(())
    })
    .await?;
    assert!(stage.receiver.ids("/ok/redirected").is_empty());
    // What the kernel's buffers hold, and no more.
    assert!(stage.receiver.taken() < 8 * 1024 * 1024, "all was read");
    Ok(())
}

#[tokio::test]
async fn a_delivery_is_tried_eight_times_with_the_same_id_and_then_given_up() -> anyhow::Result<()>
{
    let stage = Stage::set().await?;
    let endpoint = stage.register("/status/503").await?;
    let webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    let least = [5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0];
    for (attempts, least) in (1..).zip(least) {
        let row = stage.attempted(&endpoint, attempts).await?;
        assert_eq!(row.state, "pending");
        // A minute for the machine, and a fifth for jitter.
        let waits = row.wait > least - 60.0 && row.wait <= least * 1.2 + 1.0;
        assert!(waits, "{row:?}");
        stage.make_due().await?;
    }
    let row = stage.attempted(&endpoint, 8).await?;
    assert_eq!(row.state, "failed");
    assert_eq!(stage.receiver.received("/status/503").len(), 8);
    assert_eq!(stage.receiver.ids("/status/503").len(), 1);
    let metrics = webhooks.metrics().await?;
    let attempts = [("outcome", "http_5xx")];
    assert_eq!(metrics.count("hotrow_webhook_attempts_total", &attempts), 8);
    let given_up = metrics.count("hotrow_webhook_deliveries_given_up_total", &[]);
    assert_eq!(given_up, 1);

    // It can be sent again, now that the receiver is well.
    let url = json!({ "url": stage.receiver.url("/ok") });
    stage.patch(&endpoint, url).await?.expect(200)?;
    let since = json!({ "since": "2020-01-01T00:00:00Z", "only_failed": true });
    let replayed = stage
        .post(&format!("/{}/replay", endpoint.id), since)
        .await?;
    assert_eq!(replayed.expect(202)?.json()?["queued"], 1);
    stage.receive("/ok", 1).await?;
    assert_eq!(stage.receiver.ids("/ok"), stage.receiver.ids("/status/503"));
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_is_left_alone_by_all_deliveries() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/later/120").await?;
    let other = stage.register("/ok").await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.attempted(&endpoint, 1).await?;
    // What is delivered to the other endpoint was found by a look that found what was due for this one, too.
    for part in 1..=3 {
        stage.publish(&events(&format!("b{part}"), 20)).await?;
        stage.reach(&other, "delivered", 1 + part * 20).await?;
    }
    assert_eq!(stage.receiver.received("/later/120").len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_delays_nobody_and_hears_of_32_at_a_time() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let dead = stage.register("/gate").await?;
    let well = stage.register("/ok").await?;
    let _two = (
        stage.webhooks().start().await?,
        stage.webhooks().start().await?,
    );
    for part in 0..5 {
        stage.publish(&events(&format!("a{part}"), 100)).await?;
        stage.receive("/ok", (part + 1) * 100).await?;
    }
    stage.reach(&well, "delivered", 500).await?;
    wait::until("the gate to be crowded", A_WHILE, async || {
        (stage.receiver.most_at_the_gate() >= 32).then_some(())
    })
    .await?;
    assert_eq!(stage.receiver.most_at_the_gate(), 32);
    stage.receiver.open_gate(true);
    stage.make_due().await?;
    stage.receive("/gate", 500).await?;
    stage.reach(&dead, "delivered", 500).await?;
    Ok(())
}

#[tokio::test]
async fn an_endpoint_gets_the_types_it_asked_for_from_its_registration_on() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let _webhooks = stage.webhooks().start().await?;
    let before = event("before/1");
    stage.publish(&[before]).await?;
    let endpoint = stage.register("/ok").await?;
    let body = json!({ "url": stage.receiver.url("/other"), "types": ["order.expired"] });
    stage.post("", body).await?.expect(201)?;
    // Told again later, it still happened before.
    let replayed = event_at("long before/1", TimeDelta::days(-1));
    stage.publish(&[replayed, event("after/1")]).await?;
    stage.receive("/ok", 1).await?;
    let rows = stage.rows(&endpoint).await?;
    let ids: Vec<_> = rows.keys().map(String::as_str).collect();
    assert_eq!(ids, ["after/1"]);
    assert!(stage.receiver.ids("/other").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_test_event_goes_to_its_endpoint_alone() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    stage.register("/other").await?;
    let _webhooks = stage.webhooks().start().await?;
    let queued = stage
        .post(&format!("/{}/test", endpoint.id), json!({}))
        .await?;
    let queued = queued.expect(202)?.json()?;
    assert_eq!(
        (&queued["type"], &queued["state"]),
        (&json!("webhook.test"), &json!("pending"))
    );
    stage.receive("/ok", 1).await?;
    let received = stage.receiver.received("/ok").remove(0);
    assert!(received.is_signed_by(&endpoint.secret));
    let event = received.event();
    assert_eq!(event["type"], "webhook.test");
    assert_eq!(event["data"]["id"], endpoint.id.to_string());
    assert_eq!(event["data"].get("secret"), None);
    assert_eq!(received.header("webhook-id"), queued["webhook_id"]);
    assert!(stage.receiver.ids("/other").is_empty());
    Ok(())
}
