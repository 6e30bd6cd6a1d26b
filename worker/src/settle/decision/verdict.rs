//! What is decided, and what comes of it.

use hotrow_shared::{
    change::{Answer, Change},
    envelope::Order,
    id::OrderId,
};

use crate::{document::Outcome, standing::Standing};

/// A command, as far as it can be decided.
#[derive(Debug, Clone)]
pub(crate) enum Candidate<'a> {
    /// A new order, together with the other ids that the same purchase may have been given.
    Place {
        order: &'a Order,
        /// Other ids of the same customer and idempotency key.
        twins: Vec<OrderId>,
    },
    /// What is asked of a settled order.
    Change(&'a Change),
}

/// What becomes of one command.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// The order has its first outcome.
    Settled(Outcome),
    /// This very id was settled before: nothing is written.
    Duplicate,
    /// The same purchase was settled as this other order: the id becomes a second name of it.
    Alias(OrderId),
    /// The order becomes this.
    Changed(Box<Standing>, Option<GoodsMoved>),
    /// The order is so already: the same was asked before, or it asks for less than there is.
    Unchanged,
    /// The state of the order does not allow it.
    Conflict,
    /// A payment that does not pay the order, and why.
    Unmatched(Why),
    /// The same payment was found unmatched before.
    UnmatchedBefore,
}

impl Verdict {
    /// What the caller of a change hears.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Conflict => Answer::Conflict,
            Self::Unmatched(_) | Self::UnmatchedBefore => Answer::Unmatched,
            Self::Settled(_)
            | Self::Duplicate
            | Self::Alias(_)
            | Self::Changed(..)
            | Self::Unchanged => Answer::Done,
        }
    }
}

/// What a change does to the stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoodsMoved {
    /// The order has its goods again, because it was paid late.
    Taken,
    /// They are back in the stock.
    Released,
}

impl GoodsMoved {
    /// The word in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Released => "released",
        }
    }
}

/// Why a payment does not pay its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It came too late, and the goods are gone.
    Expired,
    /// It came too late, and the customer has as much as one may have.
    LimitReached,
    /// The order was cancelled.
    Cancelled,
    /// The order was rejected.
    Rejected,
    /// The order is a dead letter.
    Failed,
    /// Another payment has paid the order.
    PaidByAnother,
    /// The order costs something else.
    WrongAmount,
    /// The order is no longer kept.
    UnknownOrder,
}

impl Why {
    /// The word in the database and in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::LimitReached => "limit_reached",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::PaidByAnother => "paid_by_another",
            Self::WrongAmount => "wrong_amount",
            Self::UnknownOrder => "unknown_order",
        }
    }
}
