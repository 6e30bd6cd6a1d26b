//! Claims about the places that tests get on the shared servers.

use hotrow_tests::Place;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::{Connection as _, Executor, PgConnection};

#[tokio::test]
async fn two_places_do_not_see_each_other() -> anyhow::Result<()> {
    let (here, there) = tokio::try_join!(Place::new(), Place::new())?;

    here.database()
        .await?
        .execute("create table mine (id int)")
        .await?;
    let seen = there.database().await?.execute("select from mine").await;
    assert!(seen.is_err(), "a table is seen from another place");

    let queue = here.broker().await?.create_channel().await?;
    queue
        .queue_declare(
            "mine".into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let other = there.broker().await?.create_channel().await?;
    let seen = other
        .basic_get("mine".into(), BasicGetOptions::default())
        .await;
    assert!(seen.is_err(), "a queue is seen from another place");
    Ok(())
}

#[tokio::test]
async fn a_removed_place_is_gone_from_both_servers() -> anyhow::Result<()> {
    let (removed, other) = tokio::try_join!(Place::new(), Place::new())?;
    let (database_url, amqp_url) = (removed.database_url.clone(), removed.amqp_url.clone());
    removed.remove().await?;

    assert!(PgConnection::connect(&database_url).await.is_err());
    let properties = ConnectionProperties::default();
    assert!(Connection::connect(&amqp_url, properties).await.is_err());
    other.database().await?;
    other.broker().await?;
    Ok(())
}

#[tokio::test]
async fn durability_is_left_at_its_defaults() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let mut database = place.database().await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut database)
            .await?;
        assert_eq!(value, "on", "{setting}");
    }
    Ok(())
}
