//! Claims about the processes that deliver: they share the work, and none loses any.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use hotrow_shared::topology::EVENTS_QUEUE;
use hotrow_tests::{Mode, Proxy, Settings, client::Product, wait};
use lapin::options::QueueDeleteOptions;
use serde_json::json;

use super::{A_WHILE, CONFIRMED, Registered, Stage, event, event_at, events};

#[tokio::test]
async fn two_processes_share_the_work_and_deliver_each_event_once() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let (one, two) = (
        stage.webhooks().start().await?,
        stage.webhooks().start().await?,
    );
    let mut published = 0;
    wait::until("both to deliver", A_WHILE, async || {
        let batch = events(&format!("a{published}"), 20);
        stage.publish(&batch).await.ok()?;
        published += 20;
        stage.receive("/ok", published).await.ok()?;
        let of_each = [&one, &two].map(async |process| {
            let metrics = process.metrics().await.ok()?;
            Some(metrics.count("hotrow_webhook_attempts_total", &[]))
        });
        let [one, two] = of_each;
        (one.await? > 0 && two.await? > 0).then_some(())
    })
    .await?;
    stage.reach(&endpoint, "delivered", published).await?;
    assert_eq!(stage.receiver.received("/ok").len(), published);
    Ok(())
}

#[tokio::test]
async fn pending_deliveries_survive_the_death_of_a_process() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/gate").await?;
    let mut first = stage.webhooks().start().await?;
    stage.publish(&events("a", 100)).await?;
    wait::until("requests to be under way", A_WHILE, async || {
        (stage.receiver.at_the_gate() == 32).then_some(())
    })
    .await?;
    first.kill()?;
    first.ended(A_WHILE).await?;
    stage.receiver.open_gate(true);
    let _second = stage.webhooks().start().await?;
    // What nobody had in hand does not wait for the leases of the dead.
    stage.end_leases().await?;
    stage.receive("/gate", 100).await?;
    stage.reach(&endpoint, "delivered", 100).await?;
    // And what is copied is not copied again.
    stage.publish(&[event("b/1")]).await?;
    stage.reach(&endpoint, "delivered", 101).await?;
    assert_eq!(stage.rows(&endpoint).await?.len(), 101);
    Ok(())
}

/// An endpoint that has got `a/1`, by a process that is gone.
async fn one_delivered() -> anyhow::Result<(Stage, Registered)> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let _first = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.reach(&endpoint, "delivered", 1).await?;
    Ok((stage, endpoint))
}

#[tokio::test]
async fn a_stream_that_lost_its_end_is_read_again_and_new_events_are_not_taken_for_old_ones()
-> anyhow::Result<()> {
    let (stage, endpoint) = one_delivered().await?;
    // As if a thousand messages had been copied that the broker has no more.
    sqlx::query("update webhook_position set next_offset = next_offset + 1000")
        .execute(&stage.database)
        .await?;
    let _second = stage.webhooks().start().await?;
    stage.publish(&[event("b/1")]).await?;
    stage.receive("/ok", 2).await?;
    stage.reach(&endpoint, "delivered", 2).await?;
    assert_eq!(stage.receiver.received("/ok").len(), 2, "each once");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_lost_its_end_is_read_again_although_new_events_have_taken_its_place()
-> anyhow::Result<()> {
    let (stage, endpoint) = one_delivered().await?;
    stage.publish(&[event("b/1")]).await?;
    // As if another message had been copied from the place that the new one has.
    stage
        .sql("update webhook_position set next_offset = next_offset + 1, last_event_id = 'lost/1'")
        .await?;
    let second = stage.webhooks().start().await?;
    stage.receive("/ok", 2).await?;
    stage.reach(&endpoint, "delivered", 2).await?;
    drop(second);
    // What is where it was is not read again.
    stage.sql("delete from webhook_deliveries").await?;
    let _third = stage.webhooks().start().await?;
    stage.publish(&[event("c/1")]).await?;
    stage.reach(&endpoint, "delivered", 1).await?;
    assert_eq!(
        stage.rows(&endpoint).await?.keys().collect::<Vec<_>>(),
        ["c/1"]
    );
    Ok(())
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way_and_gives_the_rest_back() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/gate").await?;
    let hanging = stage.register("/hang").await?;
    let settings = stage.webhooks().set("SHUTDOWN_GRACE", "4s");
    let mut webhooks = settings.start().await?;
    stage.publish(&[event("a/1")]).await?;
    wait::until("requests to be under way", A_WHILE, async || {
        let both = stage.receiver.at_the_gate() == 1 && stage.receiver.ids("/hang").len() == 1;
        both.then_some(())
    })
    .await?;
    webhooks.terminate()?;
    stage.receiver.open_gate(true);
    let status = webhooks.ended(A_WHILE).await?;
    assert!(status.success(), "{}", webhooks.log_tail());
    stage.reach(&endpoint, "delivered", 1).await?;
    let leased = "select count(*) from webhook_deliveries where leased_until is not null";
    let leased: i64 = sqlx::query_scalar(leased)
        .fetch_one(&stage.database)
        .await?;
    assert_eq!(leased, 0);
    // It was no attempt, and the next process begins with it.
    let rows = stage.rows(&hanging).await?;
    let row = &rows["a/1"];
    assert_eq!((row.state.as_str(), row.attempts), ("pending", 0));
    assert!(row.wait <= 0.0, "{row:?}");
    Ok(())
}

#[tokio::test]
async fn a_stop_ends_well_in_time_although_the_database_says_nothing() -> anyhow::Result<()> {
    // What became of a request is written after the stop, or has been since before it.
    tokio::try_join!(
        stop_without_a_database(false),
        stop_without_a_database(true)
    )?;
    Ok(())
}

async fn stop_without_a_database(is_answered_first: bool) -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/gate").await?;
    let database = Proxy::in_front_of(&stage.place.database_url).await?;
    let settings = stage
        .webhooks()
        .set("DATABASE_URL", database.url(&stage.place.database_url)?)
        .set("SHUTDOWN_GRACE", "8s");
    let mut webhooks = settings.start().await?;
    stage.publish(&[event("a/1")]).await?;
    let at_the_gate = async |requests| {
        wait::until("requests at the gate", A_WHILE, async || {
            (stage.receiver.at_the_gate() == requests).then_some(())
        })
        .await
    };
    at_the_gate(1).await?;
    database.set(Mode::Stall).await?;
    if is_answered_first {
        stage.receiver.open_gate(true);
        at_the_gate(0).await?;
        webhooks.terminate()?;
    } else {
        webhooks.terminate()?;
        stage.receiver.open_gate(true);
    }
    let status = webhooks.ended(A_WHILE).await?;
    assert!(status.success(), "{}", webhooks.log_tail());
    // What could not be written is sent again, once its lease is over.
    stage.end_leases().await?;
    let _next = stage.webhooks().start().await?;
    stage.reach(&endpoint, "delivered", 1).await?;
    assert_eq!(stage.receiver.received("/gate").len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_attempt_is_counted_although_its_lease_is_somebody_elses_by_now() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/gate/500").await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    wait::until("a request to be under way", A_WHILE, async || {
        (stage.receiver.at_the_gate() == 1).then_some(())
    })
    .await?;
    // As another process claims what nobody has heard of for long.
    stage
        .sql(
            "update webhook_deliveries
             set leased_until = now() + interval '2 hours', next_at = now() + interval '2 hours'",
        )
        .await?;
    stage.receiver.open_gate(true);
    let row = stage.attempted(&endpoint, 1).await?;
    assert_eq!((row.attempts, row.state.as_str()), (1, "pending"));
    assert_eq!(
        (row.outcome.as_deref(), row.status),
        (Some("http_5xx"), Some(500))
    );
    let is_its = "select leased_until = next_at from webhook_deliveries";
    let is_its: Option<bool> = sqlx::query_scalar(is_its)
        .fetch_one(&stage.database)
        .await?;
    assert_eq!(is_its, Some(true), "the other's lease stands");
    assert!(row.wait > 3_600.0, "{row:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_that_became_private_is_refused_when_it_is_connected_to() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let port = stage.receiver.address.port();
    let urls = [
        format!("http://localhost:{port}/ok"),
        format!("http://127.0.0.1:{port}/ok"),
        format!("https://localhost:{port}/ok"),
        format!("https://[::1]:{port}/ok"),
    ];
    for url in urls {
        let body = json!({ "url": url, "types": [CONFIRMED] });
        stage.post("", body).await?.expect(201)?;
    }
    let _webhooks = stage
        .webhooks()
        .unset("WEBHOOK_ALLOWED_NETWORKS")
        .start()
        .await?;
    stage.publish(&[event("a/1")]).await?;
    wait::until("all addresses to be refused", A_WHILE, async || {
        let refused = "select count(*) from webhook_deliveries where outcome = 'refused_address'";
        let count: i64 = sqlx::query_scalar(refused)
            .fetch_one(&stage.database)
            .await
            .ok()?;
        (count == 4).then_some(())
    })
    .await?;
    assert!(stage.receiver.ids("/ok").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_no_batch_is_skipped_and_what_is_told_twice_is_sent_once()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let webhooks = stage.webhooks().start().await?;
    stage.publish_bytes("text/plain", b"hello").await?;
    stage.publish(&[event("a/1"), json!({ "id": 7 })]).await?;
    stage.publish(&[event("a/1"), event("b/1")]).await?;
    stage.reach(&endpoint, "delivered", 2).await?;
    assert_eq!(stage.receiver.received("/ok").len(), 2);
    assert!(webhooks.has_logged("is no batch of events"));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_made_anew_is_read_from_its_beginning_without_what_is_forgotten()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    stage
        .sql("update webhooks set events_since = now() - interval '10 days'")
        .await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.reach(&endpoint, "delivered", 1).await?;
    let channel = stage.place.broker().await?.create_channel().await?;
    channel
        .queue_delete(EVENTS_QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    // Delivered long ago, delivered lately, never seen.
    let again = [
        event_at("old/1", TimeDelta::days(-4)),
        event("a/1"),
        event("b/1"),
    ];
    wait::until("the stream to be made anew", A_WHILE, async || {
        stage.publish(&again).await.ok()
    })
    .await?;
    stage.reach(&endpoint, "delivered", 2).await?;
    // Once there is news, an old event is one that somebody wants to be told again.
    stage.publish(&[event("c/1")]).await?;
    stage
        .publish(&[event_at("old/2", TimeDelta::days(-4))])
        .await?;
    stage.reach(&endpoint, "delivered", 4).await?;
    let rows = stage.rows(&endpoint).await?;
    let ids: Vec<_> = rows.keys().map(String::as_str).collect();
    assert_eq!(ids, ["a/1", "b/1", "c/1", "old/2"]);
    assert_eq!(stage.receiver.received("/ok").len(), 4);
    Ok(())
}

#[tokio::test]
async fn finished_deliveries_and_deleted_endpoints_are_removed() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let kept = stage.register("/ok").await?;
    let deleted = stage.register("/gate").await?;
    let _webhooks = stage.webhooks().start().await?;
    stage.publish(&events("a", 3)).await?;
    stage.reach(&kept, "delivered", 3).await?;
    stage
        .sql("update webhook_deliveries set finished_at = now() - interval '73 hours' where event_id = 'a-0/1' and state = 'delivered'")
        .await?;
    let path = format!("/v1/webhooks/{}", deleted.id);
    let delete = reqwest::Method::DELETE;
    stage
        .client
        .send(delete, &path, &[], None)
        .await?
        .expect(204)?;
    stage.receiver.open_gate(true);
    wait::until("rows to be removed", A_WHILE, async || {
        let rows =
            "select (select count(*) from webhook_deliveries), (select count(*) from webhooks)";
        let rows: (i64, i64) = sqlx::query_as(rows).fetch_one(&stage.database).await.ok()?;
        (rows == (2, 1)).then_some(())
    })
    .await?;
    let rows = stage.rows(&kept).await?;
    assert!(!rows.contains_key("a-0/1"));
    Ok(())
}

#[tokio::test]
#[ignore = "takes more than 20 s"]
async fn ten_thousand_confirmed_orders_reach_an_endpoint_while_the_sale_goes_on()
-> anyhow::Result<()> {
    const ORDERS: i64 = 10_000;
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let _worker = Settings::worker(&stage.place)
        .set("PARTITIONS", "2")
        .start()
        .await?;
    let _webhooks = stage.webhooks().start().await?;
    let chairs = Product::chairs(ORDERS * 2);
    stage
        .client
        .put_inventory("chair", chairs)
        .await?
        .expect(201)?;
    let began = Instant::now();
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..100 {
        let client = stage.client.clone();
        buyers.spawn(async move {
            for number in 0..ORDERS / 100 {
                let customer = format!("c-{buyer}-{number}");
                client
                    .order(&customer, &[("chair", 1)])
                    .await?
                    .expect(202)?;
            }
            anyhow::Ok(())
        });
    }
    let delivered = async || -> anyhow::Result<i64> {
        let delivered = "select count(*) from webhook_deliveries where endpoint_id = $1 and state = 'delivered'";
        let delivered = sqlx::query_scalar(delivered).bind(endpoint.id);
        Ok(delivered.fetch_one(&stage.database).await?)
    };
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    let (sold, by_then) = (began.elapsed(), delivered().await?);
    wait::until("all to be delivered", A_WHILE * 5, async || {
        // To ask must not cost what is measured.
        tokio::time::sleep(Duration::from_millis(50)).await;
        (delivered().await.ok()? == ORDERS).then_some(())
    })
    .await?;
    println!(
        "{ORDERS} orders were accepted within {sold:.1?} with {by_then} delivered, and all were delivered within {:.1?}",
        began.elapsed()
    );
    assert_eq!(
        stage.receiver.received("/ok").len(),
        usize::try_from(ORDERS)?
    );
    Ok(())
}
