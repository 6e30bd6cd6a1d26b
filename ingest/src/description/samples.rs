//! A refusal of each kind, for the examples of the description.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hotrow_shared::{
    described_order::{EXAMPLE_ID, example_of},
    id::OrderId,
    outcome::Status,
};

use crate::http::{
    body::BODY_MAX,
    code::Code,
    exceeded::Exceeded,
    json::{Faults, Place},
    not_sold::{NotSold, Why},
    problem::Problem,
};

const SECOND: Duration = Duration::from_secs(1);

/// A refusal with this code.
pub(super) fn of(code: Code) -> Problem {
    match code {
        Code::Malformed => {
            Problem::Malformed("the body is cut off: it ends before its JSON does".to_owned())
        }
        Code::Unauthorized => Problem::Unauthorized,
        Code::Forbidden => Problem::Forbidden("the role of the token may not do this"),
        Code::NotFound => Problem::NotFound("there is no such order"),
        Code::MethodNotAllowed => Problem::MethodNotAllowed,
        Code::RequestTimeout => Problem::TooSlow(SECOND * 5),
        Code::CurrencyMismatch => not_sold(Why::CurrencyMismatch),
        Code::PriceChanged => not_sold(Why::PriceChanged {
            unit_price_minor: 5_900,
        }),
        Code::Closed => not_sold(Why::Closed),
        Code::NotOpen => not_sold(Why::NotOpen {
            opens_at: opens_at(),
            wait: SECOND * 30,
        }),
        Code::Paused => not_sold(Why::Paused),
        Code::LimitReached => not_sold(Why::LimitReached { limit: 2 }),
        Code::SoldOut => not_sold(Why::SoldOut { is_held: true }),
        Code::Conflict => Problem::Conflict {
            order: example_of(Status::Cancelled).to_string().into(),
            unmatched: false,
        },
        Code::NotSettled => Problem::NotSettled(SECOND),
        Code::EndpointDisabled => Problem::EndpointDisabled,
        Code::TooManyEndpoints => Problem::TooManyEndpoints,
        Code::PreconditionFailed => Problem::PreconditionFailed,
        Code::TooLarge => Problem::TooLarge(BODY_MAX),
        Code::UnsupportedMediaType => Problem::UnsupportedMediaType,
        Code::Invalid => Problem::InvalidBody(Faults::one(&QUANTITY, "must be 1 to 1000")),
        Code::IdempotencyMismatch => Problem::IdempotencyMismatch,
        Code::UnknownSku => not_sold(Why::UnknownSku),
        Code::RateLimited => Problem::RateLimited(Exceeded {
            policy: "ip",
            what: "purchases from this address",
            quota: 200,
            window: SECOND * 2,
            wait: SECOND,
        }),
        Code::Stopped => Problem::Stopped {
            until: Some(opens_at()),
            wait: Some(SECOND * 30),
        },
        Code::Overloaded => Problem::Overloaded(SECOND * 2),
        Code::Unavailable => Problem::Unavailable("the database"),
        Code::OutcomeUnknown => Problem::OutcomeUnknown(order_id()),
        Code::EventTooEarly => Problem::EventTooEarly(SECOND),
    }
}

const QUANTITY: Place<'_> = Place::Member(&Place::Body, "quantity");

fn not_sold(why: Why) -> Problem {
    let sku = "chair-123".to_owned();
    Problem::NotSold(NotSold { sku, why })
}

fn opens_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_796_119_200, 0).unwrap_or_default()
}

fn order_id() -> OrderId {
    OrderId::trusted(EXAMPLE_ID.parse().expect("a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_list_has_an_example_of_its_own() {
        for code in Code::ALL {
            assert_eq!(of(code).kind(), code);
        }
    }
}
