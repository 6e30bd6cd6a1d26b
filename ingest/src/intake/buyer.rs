//! For whom a purchase is.

use hotrow_shared::order::CustomerId;

use super::purchase::CUSTOMER_ID;
use crate::{
    auth::Caller,
    http::{json::Faults, problem::Problem},
};

/// The customer of a purchase.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buyer {
    pub(crate) customer_id: CustomerId,
    /// Whether the limit of customers counts the purchase.
    pub(crate) is_counted: bool,
}

impl Buyer {
    /// The customer that a caller may buy for: a customer for itself, everybody else for whom the purchase names. Where
    /// tokens are checked, only customers who prove who they are count towards their limit: whoever names another could
    /// use up that one's.
    ///
    /// # Errors
    /// A customer names another one (403), or nobody is named (422).
    pub(super) fn of(
        caller: &Caller,
        named: Option<CustomerId>,
        has_tokens: bool,
    ) -> Result<Self, Problem> {
        let (customer_id, is_counted) = match (caller.customer(), named) {
            (Some(itself), Some(named)) if *itself != named => {
                return Err(Problem::Forbidden(
                    "a customer buys for itself: leave customer_id out",
                ));
            }
            (Some(itself), _) => (itself.clone(), true),
            (None, Some(named)) => (named, !has_tokens),
            (None, None) => {
                let faults = Faults::one(&CUSTOMER_ID, "is missing");
                return Err(Problem::InvalidBody(faults));
            }
        };
        Ok(Self {
            customer_id,
            is_counted,
        })
    }
}
