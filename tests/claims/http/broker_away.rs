//! Claims about a broker that is silent, gone, incomplete or out of memory: a 202 comes only after
//! its confirm, and without a word from anybody when it is back.

use hotrow_tests::{
    Client, Mode, Place, Process, Proxy, processes::migrate, servers::RabbitMq, wait,
};
use lapin::options::QueueDeleteOptions;
use serde_json::json;
use uuid::Uuid;

use super::{
    CHAIR, PARTITIONS, SOON, Stock, assert_accepted, assert_refused, envelopes, ingest, orders_of,
    place, put_up, readiness, settled, stock, worker,
};

#[tokio::test]
async fn a_confirm_that_does_not_come_is_no_failure_and_the_repeat_has_no_second_effect()
-> anyhow::Result<()> {
    let place = place().await?;
    let broker = Proxy::in_front_of(&place.amqp_url).await?;
    let ingest = ingest(&place)
        .set("AMQP_URL", broker.url(&place.amqp_url)?)
        .start()
        .await?;
    put_up(&ingest, CHAIR, 10).await?;
    let client = ingest.client()?;
    let one = [(CHAIR, 1)];
    let before = assert_accepted(&client.order("c-0", &one).await?);

    broker.set(Mode::Stall).await?;
    let keyed = client.order_with_key("c-1", &one, "k").await?;
    let unknown = assert_refused(&keyed, 503, "outcome_unknown");
    let order_id: Uuid = keyed.order_id()?;
    assert_eq!(unknown["status_url"], format!("/v1/orders/{order_id}"));
    // The order may be on its way: its id is known, and nobody knows more.
    let poll = client.status(order_id).await?.expect(200)?;
    assert_eq!(poll.json()?["status"], "queued");
    assert_eq!(
        readiness(&ingest, 503).await?.json()?["missing"],
        json!(["broker"])
    );
    client.get("/livez").await?.expect(200)?;
    assert_eq!(
        ingest
            .metrics()
            .await?
            .count("hotrow_orders_accepted_total", &[]),
        1
    );

    broker.set(Mode::Pass).await?;
    let repeated = accepted_again(&client, "c-1", "k").await?;
    assert_eq!(repeated, order_id);
    readiness(&ingest, 200).await?;

    let _worker = worker(&place).start().await?;
    for order_id in [before, order_id] {
        assert_eq!(settled(&client, order_id).await?["status"], "confirmed");
    }
    let last = assert_accepted(&client.order("c-last", &one).await?);
    settled(&client, last).await?;
    let mut database = place.database().await?;
    assert_eq!(orders_of(&mut database, "c-1").await?, 1);
    let left = Stock {
        available: 7,
        ledger: 7,
        sold: 3,
    };
    assert_eq!(stock(&mut database, CHAIR).await?, left);
    Ok(())
}

#[tokio::test]
async fn without_the_broker_or_a_queue_nothing_is_accepted_and_when_it_is_back_it_is()
-> anyhow::Result<()> {
    let place = place().await?;
    let broker = Proxy::in_front_of(&place.amqp_url).await?;
    let ingest = ingest(&place)
        .set("AMQP_URL", broker.url(&place.amqp_url)?)
        .start()
        .await?;
    for sku in [CHAIR, "table", "lamp"] {
        put_up(&ingest, sku, 100).await?;
    }
    let client = ingest.client()?;
    let queued = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);

    broker.set(Mode::Refuse).await?;
    refused_without_broker(&ingest).await?;
    // Polls need no broker.
    assert_eq!(
        client.status(queued).await?.expect(200)?.json()?["status"],
        "queued"
    );
    broker.set(Mode::Pass).await?;
    accepted_again(&client, "c-2", "k-2").await?;
    readiness(&ingest, 200).await?;
    let accepted = ingest
        .metrics()
        .await?
        .count("hotrow_orders_accepted_total", &[]);
    assert_eq!((accepted, envelopes(&place).await?), (2, 2));

    // A message that no queue takes is acknowledged, too.
    let channel = place.broker().await?.create_channel().await?;
    for partition in 0..PARTITIONS {
        let queue = hotrow_shared::topology::queue(partition).into();
        channel
            .queue_delete(queue, QueueDeleteOptions::default())
            .await?;
    }
    // So it is refused, until the queues are made again.
    let mut accepted = 2;
    for sku in [CHAIR, "table", "lamp"] {
        let answer = client.order("c-3", &[(sku, 1)]).await?;
        if answer.status == 202 {
            accepted += 1;
        } else {
            assert_refused(&answer, 503, "unavailable");
        }
    }
    let metrics = ingest.metrics().await?;
    let counted = metrics.count("hotrow_orders_accepted_total", &[]);
    assert_eq!(counted, accepted);
    assert_eq!(u64::from(envelopes_of_whole(&place).await?), accepted - 2);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_blocks_publishers_is_overload_and_a_stopped_one_keeps_what_was_accepted()
-> anyhow::Result<()> {
    let rabbitmq = RabbitMq::start().await?;
    let place = Place::with_rabbitmq(&rabbitmq).await?;
    migrate(&place).await?;
    let ingest = ingest(&place).start().await?;
    for sku in [CHAIR, "table", "lamp"] {
        put_up(&ingest, sku, 100).await?;
    }
    let client = ingest.client()?;
    let mut accepted = vec![assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?)];

    rabbitmq.raise_memory_alarm().await?;
    // The broker tells a connection of the alarm when that publishes next, so the first order may
    // hang until its confirm is overdue. From then on it is known.
    let first = client.order_with_key("c-2", &[(CHAIR, 1)], "k-2").await?;
    let code = first.code().unwrap_or_default();
    assert!(
        ["outcome_unknown", "overloaded"].contains(&&*code),
        "{first:?}"
    );
    assert_refused(&first, 503, &code);
    for number in 0..20 {
        let sku = [CHAIR, "table", "lamp"][number % 3];
        let blocked = client.order("c-3", &[(sku, 1)]).await?;
        assert_refused(&blocked, 503, "overloaded");
    }
    rabbitmq.clear_memory_alarm().await?;
    accepted.push(accepted_again(&client, "c-2", "k-2").await?);

    rabbitmq.stop().await?;
    refused_without_broker(&ingest).await?;
    rabbitmq.start_again().await?;
    accepted.push(accepted_again(&client, "c-4", "k-4").await?);
    readiness(&ingest, 200).await?;

    let _worker = worker(&place).start().await?;
    for order_id in accepted {
        assert_eq!(settled(&client, order_id).await?["status"], "confirmed");
    }
    // Only the news tell the door to close.
    put_up(&ingest, "lamp", 1).await?;
    assert_accepted(&client.order("c-5", &[("lamp", 1)]).await?);
    wait::until("news after the restart", SOON, async || {
        let late = client.order("c-6", &[("lamp", 1)]).await.ok()?;
        (late.status == 409).then_some(())
    })
    .await?;
    assert_eq!(stock(&mut place.database().await?, CHAIR).await?.sold, 3);
    Ok(())
}

/// How many envelopes wait once all queues are there again.
async fn envelopes_of_whole(place: &Place) -> anyhow::Result<u32> {
    let counted = async || envelopes(place).await.ok();
    wait::until("the queues to be back", SOON, counted).await
}

/// Checks what is said while there is no broker: at first an order may have been on its way, then it
/// is known that none is.
async fn refused_without_broker(ingest: &Process) -> anyhow::Result<()> {
    let client = ingest.client()?;
    let accepted = ingest
        .metrics()
        .await?
        .count("hotrow_orders_accepted_total", &[]);
    let first = client.order("c-9", &[(CHAIR, 1)]).await?;
    let code = first.code().unwrap_or_default();
    assert!(
        ["outcome_unknown", "unavailable"].contains(&&*code),
        "{first:?}"
    );
    assert_refused(&first, 503, &code);

    let unready = readiness(ingest, 503).await?;
    assert_eq!(unready.json()?["missing"], json!(["broker"]));
    client.get("/livez").await?.expect(200)?;
    for sku in [CHAIR, "table", "lamp"] {
        assert_refused(&client.order("c-9", &[(sku, 1)]).await?, 503, "unavailable");
    }
    let metrics = ingest.metrics().await?;
    assert_eq!(metrics.count("hotrow_orders_accepted_total", &[]), accepted);
    assert!(metrics.count("hotrow_orders_refused_total", &[("code", "unavailable")]) >= 3);
    Ok(())
}

/// Repeats a keyed order until it is accepted: the broker is back, and nobody was told.
async fn accepted_again(client: &Client, customer: &str, key: &str) -> anyhow::Result<Uuid> {
    wait::until("an order to be accepted again", SOON, async || {
        let answer = client
            .order_with_key(customer, &[(CHAIR, 1)], key)
            .await
            .ok()?;
        (answer.status == 202).then(|| answer.order_id().ok())?
    })
    .await
}
