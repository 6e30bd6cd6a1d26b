//! Whose order it is: a customer sees its own, and others are to it as if they were not there.

use std::borrow::Cow;

use hotrow_shared::order::CustomerId;
use serde::Deserialize;

use super::reader::Found;
use crate::{auth::Caller, http::problem::Problem};

/// What is said of an id that was never issued, and of an order of somebody else.
pub(crate) const UNKNOWN_ORDER: Problem = Problem::NotFound("there is no such order");

/// Refuses orders that a caller may not see. What is not settled shows nothing of its customer, and anybody may see it.
///
/// # Errors
/// One of the orders is another customer's (404).
pub(crate) fn require_own(caller: &Caller, found: &[Found]) -> Result<(), Problem> {
    let is_foreign = |found: &Found| match found {
        Found::Settled(outcome) => !may_see(caller, &outcome.document),
        Found::Queued | Found::Replayed | Found::Dropped => false,
    };
    if found.iter().any(is_foreign) {
        Err(UNKNOWN_ORDER)
    } else {
        Ok(())
    }
}

/// Returns whether a caller may see the document of a settled order.
pub(crate) fn may_see(caller: &Caller, document: &[u8]) -> bool {
    caller
        .customer()
        .is_none_or(|customer| is_of(document, customer))
}

/// Returns whether a document is that of a customer's order. One that cannot be read is nobody's.
fn is_of(document: &[u8], customer: &CustomerId) -> bool {
    #[derive(Deserialize)]
    struct Owned<'d> {
        #[serde(borrow)]
        customer_id: Cow<'d, str>,
    }
    let owned = serde_json::from_slice::<Owned<'_>>(document);
    owned.is_ok_and(|owned| owned.customer_id == customer.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hotrow_shared::change::Role;
    use tokio::time::Instant;

    use super::*;
    use crate::{auth::Identity, status::outcomes::Outcome};

    fn caller(role: Role, name: &str) -> Caller {
        Caller::Known(Arc::new(Identity {
            role,
            subject: CustomerId::try_from(name).expect("a name"),
        }))
    }

    fn order(document: &'static str) -> Found {
        Found::Settled(Outcome {
            revision: 1,
            is_final: false,
            known_at: Instant::now(),
            document: Bytes::from_static(document.as_bytes()),
        })
    }

    #[test]
    fn an_order_is_hidden_from_other_customers_alone() {
        let own = [order(r#"{"customer_id":"c-1"}"#)];
        let unreadable = [order("{}")];
        let is_hidden = |caller: &Caller, found: &[Found]| require_own(caller, found).is_err();
        assert!(!is_hidden(&caller(Role::Customer, "c-1"), &own));
        assert!(is_hidden(&caller(Role::Customer, "c-10"), &own));
        assert!(is_hidden(&caller(Role::Customer, "c-1"), &unreadable));
        for role in [Role::Support, Role::Shop, Role::Admin, Role::System] {
            assert!(!is_hidden(&caller(role, "c-2"), &own), "{role:?}");
        }
        assert!(!is_hidden(&Caller::program("stripe"), &own));
        let mixed = [Found::Queued, own[0].clone(), unreadable[0].clone()];
        assert!(!is_hidden(&caller(Role::Customer, "c-10"), &mixed[..1]));
        assert!(is_hidden(&caller(Role::Customer, "c-1"), &mixed));
    }

    #[test]
    fn an_order_is_that_of_the_customer_whom_its_document_names() {
        let customer = CustomerId::try_from("auth0|a/b").expect("a name");
        for own in [
            r#"{"order_id":"x","customer_id":"auth0|a/b","items":[{"customer_id":"c-2"}]}"#,
            r#"{"customer_id":"auth0|a\/b"}"#,
        ] {
            assert!(is_of(own.as_bytes(), &customer), "{own}");
        }
        for foreign in [
            r#"{"customer_id":"auth0|a"}"#,
            r#"{"customer_id":null}"#,
            r#"{"items":[{"customer_id":"auth0|a/b"}]}"#,
            "{}",
            "",
        ] {
            assert!(!is_of(foreign.as_bytes(), &customer), "{foreign}");
        }
    }
}
