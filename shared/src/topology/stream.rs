//! The stream of events. Its limits count when it is made, and may differ from the settings later.

use std::collections::BTreeSet;

use lapin::{
    options::QueueDeclareOptions,
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable},
};
use sqlx::PgConnection;

use super::{
    error::TopologyError,
    look::{answered, good_bye, queue_exists},
    names::EVENTS_QUEUE,
    plan::{StreamLimits, bind_stream},
};
use crate::broker::{Broker, BrokerError};

/// The arguments that the broker does not change of a stream that is there.
const LIMITS: [&str; 3] = [
    "x-max-age",
    "x-max-length-bytes",
    "x-stream-max-segment-size-bytes",
];

/// Whether there is a queue of this name.
pub(super) async fn exists(broker: &Broker) -> Result<bool, TopologyError> {
    queue_exists(broker, EVENTS_QUEUE).await
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
///
/// The broker changes nothing of a queue that is there, and refuses the first argument that differs. So a refused
/// limit is taken over as it is and the queue declared again: if it is a stream, that succeeds, and if it is
/// anything else, the broker names the type in the end.
pub(super) async fn declare(broker: &Broker, limits: StreamLimits) -> Result<(), TopologyError> {
    let mut arguments = limits.arguments();
    let mut refused = BTreeSet::new();
    let channel = loop {
        let channel = broker.channel().await?;
        let durable = QueueDeclareOptions::durable();
        let declared = channel.queue_declare(EVENTS_QUEUE.into(), durable, arguments.clone());
        let Err(error) = answered(declared).await else {
            break channel;
        };
        let difference = difference(&error).filter(|it| !refused.contains(it.limit));
        let Some(Difference { limit, current }) = difference else {
            return Err(TopologyError::of(error, "queue", EVENTS_QUEUE));
        };
        refused.insert(limit);
        arguments = arguments_with(&arguments, limit, current);
    };
    if !refused.is_empty() {
        tracing::warn!(
            ?refused,
            "the stream of events was made with other limits, and keeps them until it is deleted and made anew"
        );
    }
    answered(bind_stream(&channel)).await?;
    Ok(good_bye(&channel).await?)
}

/// A limit of a queue that is there differs from ours.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    limit: &'static str,
    /// What the queue has; none if it has no such limit.
    current: Option<String>,
}

fn difference(error: &BrokerError) -> Option<Difference> {
    match error.refusal()? {
        (AMQPSoftError::PRECONDITIONFAILED, told) => read_difference(told),
        _ => None,
    }
}

/// Reads "inequivalent arg 'x-max-age' for queue … received … but current is the value '7D' of type 'longstr'", or
/// "… but current is none".
fn read_difference(message: &str) -> Option<Difference> {
    let limit = LIMITS
        .into_iter()
        .find(|limit| message.contains(&format!("'{limit}'")))?;
    let (_, current) = message.rsplit_once("current is")?;
    let current = current.split('\'').nth(1).map(str::to_owned);
    Some(Difference { limit, current })
}

fn arguments_with(arguments: &FieldTable, limit: &str, current: Option<String>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments.inner() {
        if name.as_str() != limit {
            table.insert(name.clone(), value.clone());
        }
    }
    let current = current.map(|current| match current.parse() {
        Ok(number) => AMQPValue::LongLongInt(number),
        Err(_) => AMQPValue::LongString(current.into()),
    });
    if let Some(current) = current {
        table.insert(limit.into(), current);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_limit_differs_and_what_it_is() {
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue 'hotrow.events' in vhost '/': \
                    received the value '3600s' of type 'longstr' but current is the value '604800s' of type 'longstr'";
        let expected = Difference {
            limit: "x-max-age",
            current: Some("604800s".to_owned()),
        };
        assert_eq!(read_difference(told), Some(expected));
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue 'hotrow.events' in vhost \
                    '/': received the value '10' of type 'signedint' but current is none";
        let expected = Difference {
            limit: "x-max-length-bytes",
            current: None,
        };
        assert_eq!(read_difference(told), Some(expected));
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'hotrow.events' in vhost '/': \
                    received 'stream' but current is 'classic'";
        assert_eq!(read_difference(told), None);
    }
}
