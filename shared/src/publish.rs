//! Publishing: what it means that the broker has a message, decided once for orders, events and dead letters.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use crate::{
    broker::{Broker, BrokerError, is_missing},
    seal::SealKeys,
    topology::ORDERS_EXCHANGE,
};

/// How long the broker may take to confirm a message.
pub const CONFIRM_MAX: Duration = Duration::from_secs(5);

/// A message is not known to be safe.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It is in no queue: the channel was gone before, or has ended because the exchange is missing.
    #[error("not sent: {0}")]
    NotSent(BrokerError),
    /// The broker has said that no queue takes it. The channel must not be used for the next queue of
    /// that name.
    #[error("not taken by any queue: is the queue missing?")]
    NotTaken,
    /// It may be in a queue. The channel is not to be used again: a late confirm may be on its way.
    #[error("not known whether it was taken: {0}")]
    Unknown(BrokerError),
}

/// A channel on which the broker confirms what it has taken.
///
/// # Errors
/// The broker blocks publishers, refuses, or does not answer.
pub async fn confirming_channel(broker: &Broker) -> Result<Channel, BrokerError> {
    // A blocked connection answers nothing, and one that is given up for that stays until the alarm ends.
    if broker.blocked() {
        return Err(BrokerError::Blocked);
    }
    let channel = broker.channel().await?;
    let selected = channel.confirm_select(ConfirmSelectOptions::default());
    timeout(CONFIRM_MAX, selected)
        .await
        .map_err(|_| BrokerError::Silent)??;
    Ok(channel)
}

/// Publishes a message and returns when it is durable in a queue.
///
/// An unroutable message is acknowledged, too, after it was returned: only an acknowledgement with
/// nothing returned is a yes. (RabbitMQ, "Consumer Acknowledgements and Publisher Confirms".) Which
/// message was returned lapin does not tell apart, so a channel has one on its way at a time.
///
/// # Errors
/// See [`PublishError`].
pub async fn confirmed(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    body: &[u8],
    headers: FieldTable,
) -> Result<(), PublishError> {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_headers(headers);
    confirmed_as(channel, exchange, routing_key, body, properties).await
}

/// Publishes the body of an envelope with its seal, as [`confirmed`] does. Every new envelope goes out here.
///
/// # Errors
/// See [`PublishError`].
pub async fn envelope(
    channel: &Channel,
    routing_key: &str,
    body: &[u8],
    seals: &SealKeys,
) -> Result<(), PublishError> {
    let mut headers = FieldTable::default();
    seals.add(body, &mut headers);
    confirmed(channel, ORDERS_EXCHANGE, routing_key, body, headers).await
}

/// Publishes a message of any content, as [`confirmed`] does.
///
/// # Errors
/// See [`PublishError`].
pub async fn confirmed_as(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<(), PublishError> {
    // lapin refuses before it sends anything when it knows that the channel is gone.
    if !channel.status().connected() {
        return Err(PublishError::NotSent(BrokerError::Ended));
    }
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let persistent = properties.with_delivery_mode(2);
    let publish = async {
        let confirm = channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                body,
                persistent,
            )
            .await?;
        confirm.await
    };
    match timeout(CONFIRM_MAX, publish).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)))) => Err(PublishError::NotTaken),
        // The broker takes no responsibility, which does not mean that no queue has it.
        Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => {
            Err(PublishError::Unknown(BrokerError::NotConfirmed))
        }
        Ok(Err(error)) if is_missing(&error) => Err(PublishError::NotSent(error.into())),
        Ok(Err(error)) => Err(PublishError::Unknown(error.into())),
        Err(_) => Err(PublishError::Unknown(BrokerError::Silent)),
    }
}

/// Publishes a message that may get lost, and returns when it is on its way.
///
/// # Errors
/// The channel is gone.
pub async fn unconfirmed(
    channel: &Channel,
    exchange: &str,
    body: &[u8],
) -> Result<(), BrokerError> {
    let options = BasicPublishOptions::default();
    let sent = channel
        .basic_publish(
            exchange.into(),
            "".into(),
            options,
            body,
            BasicProperties::default(),
        )
        .await?;
    // The channel is not in confirm mode: there is nothing to wait for.
    drop(sent);
    Ok(())
}
