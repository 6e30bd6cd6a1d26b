//! Claims about exchanges, queues and bindings that somebody deletes: while anything runs they come back.

use std::time::Duration;

use hotrow_shared::topology::{
    DEAD_EXCHANGE, DEAD_QUEUE, ORDERS_EXCHANGE, SETTLED_EXCHANGE, queue, routing_key,
};
use hotrow_tests::{Client, Place, Process, wait};
use lapin::{
    BasicProperties, Channel, Confirmation, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};

use super::{CHAIR, PARTITIONS, ingest, place, put_up, settled, worker};

/// Products of both partitions.
const SKUS: [&str; 4] = ["chair-0", "chair-1", "chair-2", "chair-3"];
/// What the README promises.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn queues_bindings_and_the_exchange_of_orders_come_back_within_ten_seconds()
-> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, workers) = processes(&place).await?;
    let client = ingest.client()?;
    for sku in SKUS {
        put_up(&ingest, sku, 1_000).await?;
    }
    sells(&client).await?;

    // The last one, too: at a start it would mean that PARTITIONS was changed.
    let last = PARTITIONS - 1;
    let channel = channel(&place).await?;
    let nothing = QueueDeleteOptions::default();
    channel.queue_delete(queue(last).into(), nothing).await?;
    sells(&client).await?;

    let (name, key) = (queue(0).into(), routing_key(0).into());
    let none = FieldTable::default();
    channel
        .queue_unbind(name, ORDERS_EXCHANGE.into(), key, none)
        .await?;
    sells(&client).await?;

    channel
        .exchange_delete(ORDERS_EXCHANGE.into(), ExchangeDeleteOptions::default())
        .await?;
    // What meets no exchange is in no queue, and whoever sent it hears just that.
    let refused = client.order("c-1", &[(CHAIR, 1)]).await?;
    assert!(
        ["", "unavailable"].contains(&refused.code().unwrap_or_default().as_str()),
        "{refused:?}"
    );
    sells(&client).await?;

    // Everything at once, and all processes miss it.
    for partition in 0..PARTITIONS {
        let nothing = QueueDeleteOptions::default();
        channel
            .queue_delete(queue(partition).into(), nothing)
            .await?;
    }
    channel
        .exchange_delete(ORDERS_EXCHANGE.into(), ExchangeDeleteOptions::default())
        .await?;
    sells(&client).await?;
    drop(workers);
    Ok(())
}

#[tokio::test]
async fn dead_letters_and_news_come_back_within_ten_seconds() -> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, _workers) = processes(&place).await?;
    let channel = channel(&place).await?;
    channel
        .queue_delete(DEAD_QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    for exchange in [DEAD_EXCHANGE, SETTLED_EXCHANGE] {
        channel
            .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
            .await?;
    }
    is_buried(&place).await?;
    let none = FieldTable::default();
    channel
        .queue_unbind(DEAD_QUEUE.into(), DEAD_EXCHANGE.into(), "".into(), none)
        .await?;
    is_buried(&place).await?;

    // Only the news tell the door to close.
    let client = ingest.client()?;
    let mut number = 0;
    wait::until("news to be heard", HEALED_WITHIN, async || {
        number += 1;
        let sku = format!("lamp-{number}");
        put_up(&ingest, &sku, 1).await.ok()?;
        let sold = client.order("c-1", &[(&sku, 1)]).await.ok()?;
        settled(&client, sold.order_id().ok()?).await.ok()?;
        let late = client.order("c-2", &[(&sku, 1)]).await.ok()?;
        (late.status == 409).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_queue_that_is_deleted_while_nothing_runs_stays_away() -> anyhow::Result<()> {
    let place = place().await?;
    let mut before = ingest(&place).start().await?;
    put_up(&before, CHAIR, 1_000).await?;
    before.terminate()?;
    before.ended(super::SOON).await?;
    let channel = channel(&place).await?;
    for partition in 0..PARTITIONS {
        let nothing = QueueDeleteOptions::default();
        channel
            .queue_delete(queue(partition).into(), nothing)
            .await?;
    }
    let fewer = PARTITIONS - 1;
    let after = ingest(&place).set("PARTITIONS", fewer.to_string());
    let after = after.start().await?;
    let client = after.client()?;
    wait::until("an order to be accepted", HEALED_WITHIN, async || {
        let answer = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let gone = channel.queue_declare(queue(fewer).into(), passive, FieldTable::default());
    assert!(gone.await.is_err());
    Ok(())
}

async fn processes(place: &Place) -> anyhow::Result<(Process, [Process; 2])> {
    // One after the other: the first declares, the others find it done.
    let ingest = ingest(place).start().await?;
    let workers = [worker(place).start().await?, worker(place).start().await?];
    Ok((ingest, workers))
}

async fn channel(place: &Place) -> anyhow::Result<Channel> {
    Ok(place.broker().await?.create_channel().await?)
}

/// Waits until an order of each product is accepted and settled.
async fn sells(client: &Client) -> anyhow::Result<()> {
    for sku in SKUS {
        let sold = async || {
            let answer = client.order("c-1", &[(sku, 1)]).await.ok()?;
            (answer.status == 202).then(|| answer.order_id().ok())?
        };
        let order_id = wait::until("an order to be accepted", HEALED_WITHIN, sold).await?;
        assert_eq!(settled(client, order_id).await?["status"], "confirmed");
    }
    Ok(())
}

/// Waits until what is sent to the dead letters lies in their queue.
async fn is_buried(place: &Place) -> anyhow::Result<()> {
    wait::until("dead letters to be kept", HEALED_WITHIN, async || {
        let channel = channel(place).await.ok()?;
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Fanout;
        channel
            .exchange_declare(DEAD_EXCHANGE.into(), kind, passive, FieldTable::default())
            .await
            .ok()?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .ok()?;
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default();
        let confirm = channel
            .basic_publish(
                DEAD_EXCHANGE.into(),
                "".into(),
                mandatory,
                b"{}",
                properties,
            )
            .await
            .ok()?;
        matches!(confirm.await, Ok(Confirmation::Ack(None))).then_some(())
    })
    .await
}
