//! Letters: what lies in the dead-letter queue, as the command reads it.

use hotrow_shared::{
    envelope::{self, Command, Opened},
    id::OrderId,
    request_id::RequestId,
    seal::Seal,
    topology::DEAD_QUEUE,
};
use lapin::{
    Channel,
    message::{BasicGetMessage, Delivery},
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{DETAIL_HEADER, DeadReason, PARTITION_HEADER, REASON_HEADER};
use crate::seals::{Fault, Seals};

/// The reason of a letter that does not say one.
pub(super) const UNKNOWN: &str = "unknown";
/// A dead letter as a person sees it.
#[derive(Serialize)]
pub(super) struct Listed<'a> {
    reason: &'a str,
    detail: &'a str,
    partition: Option<u16>,
    seal: &'static str,
    order_ids: &'a [OrderId],
    request_ids: &'a [RequestId],
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A dead letter.
pub(super) struct Letter {
    pub(super) delivery: Delivery,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) partition: Option<u16>,
    pub(super) seal: Seal,
    /// A worker would settle what it says.
    pub(super) is_believed: bool,
    pub(super) order_ids: Vec<OrderId>,
    pub(super) request_ids: Vec<RequestId>,
    pub(super) opened: Opened,
}

/// The dead letters that were there at the first look. A worker may put what is replayed straight back
/// behind them: that is for the next time, or a replay would go on for ever.
pub(super) struct Pile<'a> {
    pub(super) channel: Channel,
    seals: &'a Seals,
    left: Option<u32>,
}

impl<'a> Pile<'a> {
    pub(super) fn on(channel: Channel, seals: &'a Seals) -> Self {
        Self {
            channel,
            seals,
            left: None,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Letter>, lapin::Error> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let message = self
            .channel
            .basic_get(DEAD_QUEUE.into(), BasicGetOptions::default())
            .await?;
        Ok(message.map(|message| {
            self.left = Some(self.left.map_or(message.message_count, |left| left - 1));
            Letter::read(message, self.seals)
        }))
    }
}

impl Letter {
    fn read(message: BasicGetMessage, seals: &Seals) -> Self {
        let delivery = message.delivery;
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let opened = envelope::open(&delivery.data);
        let seal = seals.keys.check(&delivery.data, Some(&headers));
        let fault = seals.fault(seal);
        let (reason, detail) = why(&headers, fault);
        let partition = match headers.inner().get(PARTITION_HEADER) {
            Some(AMQPValue::LongInt(partition)) => u16::try_from(*partition).ok(),
            _ => text(&headers, "x-first-death-queue")
                .and_then(|queue| queue.rsplit('.').next()?.parse().ok()),
        };
        let order_ids = opened.commands.iter().map(Command::order_id).collect();
        let request_ids = opened.commands.iter().filter_map(Command::request_id);
        Self {
            delivery,
            reason,
            detail,
            partition,
            seal,
            is_believed: fault.is_none(),
            order_ids,
            request_ids: request_ids.cloned().collect(),
            opened,
        }
    }

    pub(super) fn listed(&self) -> Listed<'_> {
        let body = serde_json::from_slice(&self.delivery.data).ok();
        Listed {
            reason: &self.reason,
            detail: &self.detail,
            partition: self.partition,
            seal: self.seal.as_str(),
            order_ids: &self.order_ids,
            request_ids: &self.request_ids,
            text: body
                .is_none()
                .then(|| String::from_utf8_lossy(&self.delivery.data).into_owned()),
            body,
        }
    }
}

/// Why a letter is dead, and that in words.
///
/// What the worker buried says why; what the broker did has its standard headers. A letter that is not believed may
/// say anything of itself, and somebody may have put it here without a worker.
fn why(headers: &FieldTable, fault: Option<(Fault, &str)>) -> (String, String) {
    let said = text(headers, REASON_HEADER).or_else(|| text(headers, "x-first-death-reason"));
    let said = said.unwrap_or_else(|| UNKNOWN.to_owned());
    let detail = text(headers, DETAIL_HEADER);
    let detail = detail.unwrap_or_else(|| "dead-lettered by the broker".to_owned());
    match fault.map(|(fault, words)| (DeadReason::of(fault).as_str(), words)) {
        Some((reason, words)) if said != reason => {
            let detail = format!("{words}. It says of itself: {said}: {detail}");
            (reason.to_owned(), detail)
        }
        _ => (said, detail),
    }
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
