//! The queue through which one process hears the news.

use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    names::SETTLED_EXCHANGE,
    plan::{bind, text},
};

/// Declares a private queue for news, bound to their exchange, and returns its name.
///
/// It holds at most a few seconds of news and drops the oldest: a slow listener must not fill the
/// broker.
///
/// # Errors
/// The broker is out of reach.
pub async fn declare_news_queue(channel: &Channel) -> Result<ShortString, lapin::Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-max-length-bytes".into(),
        AMQPValue::LongInt(64 * 1024 * 1024),
    );
    arguments.insert("x-overflow".into(), text("drop-head"));
    let private = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("".into(), private, arguments).await?;
    let name = queue.name().clone();
    bind_news_queue(channel, &name).await?;
    Ok(name)
}

/// Binds a queue of news to their exchange. Again and again does no harm, and is the only way to notice
/// that the exchange was deleted and declared anew: its bindings have gone with it.
///
/// # Errors
/// The exchange is missing, or the broker out of reach.
pub async fn bind_news_queue(channel: &Channel, queue: &ShortString) -> Result<(), lapin::Error> {
    bind(channel, queue.as_str(), SETTLED_EXCHANGE, "").await
}
