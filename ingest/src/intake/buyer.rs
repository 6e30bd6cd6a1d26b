//! For whom a purchase is.

use hotrow_shared::order::CustomerId;

use crate::{auth::Caller, http::problem::Problem};

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
    /// A customer names another one (403).
    pub(super) fn of(
        caller: &Caller,
        customer_id: CustomerId,
        has_tokens: bool,
    ) -> Result<Self, Problem> {
        let itself = caller.customer();
        if itself.is_some_and(|itself| *itself != customer_id) {
            return Err(Problem::Forbidden(
                "a customer buys for itself: leave customer_id out",
            ));
        }
        Ok(Self {
            customer_id,
            is_counted: itself.is_some() || !has_tokens,
        })
    }
}
