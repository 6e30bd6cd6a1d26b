//! Claims about the servers of our own: they are gone when their owner is, and can be stopped.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use hotrow_tests::{
    Browser, Place,
    servers::{Chromedriver, Postgres, RabbitMq},
    wait,
};
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::Executor;
use tempfile::TempDir;
use tokio::time::timeout;
use url::Url;

const A_WHILE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn servers_and_their_data_are_gone_after_their_owner_was_killed() -> anyhow::Result<()> {
    let parent = TempDir::new()?;
    // As root, PostgreSQL runs as another user, who has to reach its folder in there.
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755))?;
    let mut owner = Command::new(env!("CARGO_BIN_EXE_hold"))
        .env("TMPDIR", parent.path())
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = owner.stdout.take().context("no standard output")?;
    let lines = BufReader::new(output).lines().take(3);
    let addresses = || {
        lines
            .map(|line| address(&line?))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let servers = tokio::task::spawn_blocking(addresses).await??;
    for server in &servers {
        TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
    }
    let folders = || fs::read_dir(parent.path()).map_or(0, Iterator::count);
    assert_eq!(folders(), 2);

    owner.kill()?;
    owner.wait()?;
    wait::until("the folders to go", A_WHILE, async || {
        (folders() == 0).then_some(())
    })
    .await?;
    for server in &servers {
        assert!(
            TcpStream::connect(server).is_err(),
            "a server still listens at {server}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_browser_is_gone_when_its_driver_is_dropped_or_killed() -> anyhow::Result<()> {
    for is_killed in [false, true] {
        let driver = Chromedriver::start().await?;
        let browser = Browser::start_by(&driver).await?;
        let process = format!("/proc/{}", browser.process_id()?);
        assert!(fs::exists(&process)?);
        if is_killed {
            driver.kill().await?;
        }
        drop(driver);
        wait::until("the browser to go", A_WHILE, async || {
            // A process that has ended stays until its parent has noticed.
            let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
            (status.is_empty() || status.contains("State:\tZ")).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "starts a broker three times, which takes more than 20 s"]
async fn what_a_broker_confirmed_survives_its_stop_and_its_crash() -> anyhow::Result<()> {
    let rabbitmq = RabbitMq::start().await?;
    let place = Place::with_rabbitmq(&rabbitmq).await?;
    publish(&durable_queue(&place).await?).await?;

    // The stop comes first: RabbitMQ 3.10 writes down a new quorum queue's name only within half a
    // second, and after a crash in that time it finds an empty queue of that name.
    rabbitmq.stop().await?;
    assert!(place.broker().await.is_err(), "a stopped broker answers");
    rabbitmq.start_again().await?;
    has_messages(&place, 1).await?;

    publish(&durable_queue(&place).await?).await?;
    rabbitmq.crash().await?;
    assert!(place.broker().await.is_err(), "a crashed broker answers");
    rabbitmq.start_again().await?;
    has_messages(&place, 2).await?;

    // A broker that believes itself out of memory confirms nothing until it believes otherwise.
    let channel = durable_queue(&place).await?;
    rabbitmq.raise_memory_alarm().await?;
    let mut blocked = std::pin::pin!(publish(&channel));
    let early = timeout(Duration::from_millis(300), &mut blocked).await;
    assert!(
        early.is_err(),
        "a broker with a memory alarm took a message"
    );
    rabbitmq.clear_memory_alarm().await?;
    timeout(A_WHILE, blocked).await??;
    has_messages(&place, 3).await?;
    Ok(())
}

#[tokio::test]
async fn what_a_database_committed_survives_its_crash() -> anyhow::Result<()> {
    let postgres = Postgres::start().await?;
    let place = Place::with_postgres(&postgres).await?;
    place
        .database()
        .await?
        .execute("create table kept as select 7 as number")
        .await?;

    postgres.crash().await?;
    assert!(place.database().await.is_err(), "a crashed server answers");
    postgres.start_again().await?;
    postgres.stop().await?;
    assert!(place.database().await.is_err(), "a stopped server answers");
    postgres.start_again().await?;

    let mut database = place.database().await?;
    let number: i32 = sqlx::query_scalar("select number from kept")
        .fetch_one(&mut database)
        .await?;
    assert_eq!(number, 7);
    Ok(())
}

/// `host:port` of a line `NAME=url`.
fn address(line: &str) -> anyhow::Result<String> {
    let (_, url) = line
        .split_once('=')
        .with_context(|| format!("not a setting: {line}"))?;
    let url = Url::parse(url)?;
    let host = url.host_str().context("no host")?;
    Ok(format!("{host}:{}", url.port().context("no port")?))
}

/// A channel in confirm mode, and the queue `kept`.
async fn durable_queue(place: &Place) -> anyhow::Result<Channel> {
    let channel = place.broker().await?.create_channel().await?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        lapin::types::AMQPValue::LongString("quorum".into()),
    );
    channel
        .queue_declare("kept".into(), durable, quorum)
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

async fn publish(channel: &Channel) -> anyhow::Result<()> {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel
        .basic_publish(
            "".into(),
            "kept".into(),
            BasicPublishOptions::default(),
            b"x",
            persistent,
        )
        .await?;
    anyhow::ensure!(confirm.await?.is_ack(), "not confirmed");
    Ok(())
}

/// Waits until `count` messages are in the queue `kept`. After a start, a quorum queue elects its
/// leader first, and takes some time to count.
async fn has_messages(place: &Place, count: u32) -> anyhow::Result<()> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let broker = place.broker().await?;
    wait::until(&format!("{count} messages"), A_WHILE, async || {
        // A refused declaration closes its channel.
        let channel = broker.create_channel().await.ok()?;
        let queue = channel
            .queue_declare("kept".into(), passive, FieldTable::default())
            .await
            .ok()?;
        (queue.message_count() == count).then_some(())
    })
    .await
}
