//! What is told by events.

use hotrow_shared::{event::EventType, outcome::Status};

/// What is told by events, where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telling {
    /// Whether rejected orders are told of, too.
    pub rejected: bool,
}

impl Telling {
    /// Whether events of this type are published.
    pub(crate) fn wants(self, r#type: EventType) -> bool {
        r#type != EventType::OrderRejected || self.rejected
    }
}

/// What is told of an order that has become this.
pub(crate) fn type_of(status: Status, is_change: bool) -> EventType {
    match status {
        Status::Reserved if is_change => EventType::OrderExtended,
        Status::Reserved => EventType::OrderReserved,
        Status::Confirmed => EventType::OrderConfirmed,
        Status::Expired => EventType::OrderExpired,
        Status::Cancelled => EventType::OrderCancelled,
        Status::Rejected => EventType::OrderRejected,
        Status::Failed => EventType::OrderFailed,
    }
}
