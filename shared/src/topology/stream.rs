//! The stream of events. Its limits count when it is made, and may differ from the settings later.

use lapin::{
    ErrorKind,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use sqlx::PgConnection;

use super::{
    error::TopologyError,
    look::{answered, good_bye},
    names::EVENTS_QUEUE,
    plan::{StreamLimits, bind_stream},
};
use crate::broker::{Broker, BrokerError, is_missing};

/// The arguments that the broker does not change of a stream that is there.
const LIMITS: [&str; 3] = [
    "'x-max-age'",
    "'x-max-length-bytes'",
    "'x-stream-max-segment-size-bytes'",
];

/// Whether there is a queue of this name.
pub(super) async fn exists(broker: &Broker) -> Result<bool, TopologyError> {
    let channel = broker.channel().await?;
    let options = QueueDeclareOptions::default().passive();
    let declared = channel.queue_declare(EVENTS_QUEUE.into(), options, FieldTable::default());
    match answered(declared).await {
        Ok(_) => {
            good_bye(&channel).await?;
            Ok(true)
        }
        Err(BrokerError::Failed(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Notes that the stream is about to be made anew. To be committed before it is: whoever reads the stream must not
/// take an offset of the old one for one of the new. If the process dies in between, readers begin again at the first
/// event of the old one, which they have seen.
pub(super) async fn begin_generation(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("update event_stream set generation = generation + 1")
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the stream, or finds that it is there, with these limits or with others.
pub(super) async fn declare(broker: &Broker, limits: StreamLimits) -> Result<(), TopologyError> {
    let channel = broker.channel().await?;
    let durable = QueueDeclareOptions::durable();
    let declared = channel.queue_declare(EVENTS_QUEUE.into(), durable, limits.arguments());
    let channel = match answered(declared).await {
        Ok(_) => channel,
        Err(error) if is_about_limits(&error) => {
            tracing::debug!("the stream of events was made with other limits, and keeps them");
            broker.channel().await?
        }
        Err(error) => return Err(TopologyError::of(error, "queue", EVENTS_QUEUE)),
    };
    answered(bind_stream(&channel)).await?;
    Ok(good_bye(&channel).await?)
}

fn is_about_limits(error: &BrokerError) -> bool {
    let BrokerError::Failed(error) = error else {
        return false;
    };
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return false;
    };
    *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
        && LIMITS
            .iter()
            .any(|limit| error.get_message().as_str().contains(limit))
}
