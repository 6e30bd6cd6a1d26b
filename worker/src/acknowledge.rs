//! Acknowledging: the one place that tells the broker that envelopes may be forgotten.

use hotrow_shared::broker::BrokerError;
use lapin::{Channel, options::BasicAckOptions};

/// Acknowledges every envelope up to and including a tag.
///
/// To be called when each of their orders is committed or dead-lettered, and not before: what
/// is not acknowledged comes again, and finds itself settled.
pub(crate) async fn up_to(channel: &Channel, tag: u64) -> Result<(), BrokerError> {
    Ok(channel
        .basic_ack(tag, BasicAckOptions { multiple: true })
        .await?)
}
