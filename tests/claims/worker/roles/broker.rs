//! Claims about what users may do at the broker.

use anyhow::{Context, ensure};
use hotrow_tests::{Place, Settings, Users};
use lapin::{
    ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};

#[tokio::test]
async fn at_the_broker_no_user_does_what_is_not_its_work() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let worker = users
        .worker(Settings::worker(&place))
        .set("PARTITIONS", "1");
    let _worker = worker.start().await?;
    let broker = async |url: &str| {
        lapin::Connection::connect(url, ConnectionProperties::default())
            .await
            .context("connect")
    };
    let ingest = broker(&users.ingest_amqp_url).await?;
    let reader = broker(&users.reader_amqp_url).await?;
    let refused = |what: &str, error: Option<lapin::Error>| {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        ensure!(
            error.contains("ACCESS_REFUSED") || error.contains("access to"),
            "{what}: {error}"
        );
        Ok(())
    };
    for (who, connection) in [("ingest", &ingest), ("reader", &reader)] {
        for queue in ["hotrow.orders.00", "hotrow.dead"] {
            let channel = connection.create_channel().await?;
            let got = channel.basic_get(queue.into(), BasicGetOptions::default());
            refused(&format!("{who} gets from {queue}"), got.await.err())?;
            let channel = connection.create_channel().await?;
            let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
            refused(&format!("{who} purges {queue}"), purged.await.err())?;
            let channel = connection.create_channel().await?;
            let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
            refused(&format!("{who} deletes {queue}"), deleted.await.err())?;
            let channel = connection.create_channel().await?;
            let bound = channel.queue_bind(
                queue.into(),
                "hotrow.orders".into(),
                "x".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            refused(&format!("{who} binds {queue}"), bound.await.err())?;
        }
        let channel = connection.create_channel().await?;
        let declared = channel.exchange_declare(
            "hotrow.mine".into(),
            lapin::ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        );
        refused(&format!("{who} declares an exchange"), declared.await.err())?;
        let channel = connection.create_channel().await?;
        let declared = channel.queue_declare(
            "hotrow.mine".into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        );
        refused(&format!("{who} declares a queue"), declared.await.err())?;
    }
    // The broker answers a publish that it refuses by closing the channel.
    for (connection, exchange) in [
        (&ingest, "hotrow.dead"),
        (&ingest, "hotrow.events"),
        (&ingest, ""),
        (&reader, "hotrow.orders"),
        (&reader, "hotrow.settled"),
    ] {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(lapin::options::ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions::default();
        let properties = lapin::BasicProperties::default();
        let published = channel
            .basic_publish(exchange.into(), "00".into(), options, b"x", properties)
            .await?;
        let refusal = published.await.err();
        ensure!(
            refusal.is_some(),
            "a foreign hand publishes to {exchange:?}"
        );
    }
    // What a reader of events is there for.
    let channel = reader.create_channel().await?;
    channel
        .basic_qos(1, lapin::options::BasicQosOptions::default())
        .await?;
    channel
        .basic_consume(
            "hotrow.events".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(())
}
