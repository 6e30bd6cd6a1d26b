//! Changes of settled orders: what callers, and the end of a hold, ask for.

use serde::{Deserialize, Serialize};

use crate::{id::OrderId, order::Sku, request_id::RequestId};

/// The longest payment reference, in characters.
pub const PAYMENT_REFERENCE_LENGTH_MAX: usize = 255;
/// The longest that a caller extends a hold by at once, in seconds.
pub const EXTENSION_SECONDS_MAX: u32 = 86_400;
/// The longest that the goods of any product are held with all extensions, in seconds from settling.
pub const EXTENDED_HOLD_SECONDS_MAX: u32 = 7 * EXTENSION_SECONDS_MAX;

/// Something that is asked of a settled order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The order, by its first name.
    pub order_id: OrderId,
    /// The SKUs of its items, whose rows are locked before the order is looked at.
    pub skus: Vec<Sku>,
    /// When the change entered its lane, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// Who asks.
    pub by: Actor,
    /// The HTTP request that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// By which the news tells a caller that waits that this very change is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// What is asked.
    pub ask: Ask,
}

/// A random name of one change.
pub type Ticket = u64;

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What the caller may do.
    pub role: Role,
    /// Who the caller is, as the token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever buys.
    Customer,
    /// Helps customers.
    Support,
    /// The shop's own programs.
    Shop,
    /// May do everything.
    Admin,
    /// Hotrow itself.
    System,
}

impl Role {
    /// The word in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Support => "support",
            Self::Shop => "shop",
            Self::Admin => "admin",
            Self::System => "system",
        }
    }
}

/// What is asked of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// It is paid.
    Confirm(Payment),
    /// Its goods are not wanted, or not sold.
    Cancel(Cancellation),
    /// Its goods are to be held for longer.
    Extend(Extension),
    /// Its hold is over.
    Expire(Expiry),
}

/// Returns whether a text can be a payment's reference.
#[must_use]
pub fn is_payment_reference(text: &str) -> bool {
    let is_visible = text.bytes().all(|b| b.is_ascii_graphic());
    is_visible && (1..=PAYMENT_REFERENCE_LENGTH_MAX).contains(&text.len())
}

/// A payment for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// The payment provider's name for it: 1 to 255 visible ASCII characters.
    pub reference: String,
    /// What was paid, in the currency's smallest unit; checked if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<i64>,
    /// ISO 4217; checked if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// The end of an order before its goods leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancellation {
    /// The shop's own word, of a SKU's length and characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the goods of a confirmed order go back into the stock. Held goods always do.
    pub restock: bool,
}

/// More time to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Seconds from the acceptance of the change: 1 to 86,400 if a caller says so, and 604,800 to extend the hold as far
    /// as its product allows.
    pub seconds: u32,
}

/// The end of a hold. The worker that settles it looks whether the hold is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {}

impl Ask {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Confirm(_) => "confirm",
            Self::Cancel(_) => "cancel",
            Self::Extend(_) => "extend",
            Self::Expire(_) => "expire",
        }
    }
}

/// How a change was settled, as the news tells it to the caller that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The order is as it was asked for, by this change or by the same one before.
    Done,
    /// The state of the order does not allow it.
    Conflict,
    /// The payment did not pay the order, and is listed as unmatched.
    Unmatched,
}
