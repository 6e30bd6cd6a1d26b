//! The reader of docs/events.md: prints the type and the subject of every event.

use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue::LongString, FieldTable},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL")?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut from = FieldTable::default();
    from.insert("x-stream-offset".into(), LongString("first".into()));
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("hotrow.events".into(), "".into(), options, from);
    let mut messages = consumer.await?;
    while let Some(message) = messages.next().await.transpose()? {
        for event in serde_json::from_slice::<Vec<serde_json::Value>>(&message.data)? {
            println!("{} {}", event["type"], event["subject"]);
        }
        message.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
