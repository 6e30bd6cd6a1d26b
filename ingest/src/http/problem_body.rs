//! The body of a refusal: `application/problem+json` (RFC 9457).

use chrono::{DateTime, Utc};
use hotrow_shared::{described_order::AnyOrder, id::OrderId, outcome::timestamp_if_any};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    json::Faults,
    not_sold::{NotSold, Why},
    problem::Problem,
};

/// Why a request was refused (RFC 9457). Codes may be added: treat one that you do not know by its status.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// The code as a URN, `urn:hotrow:problem:<code>`. There is no page behind it.
    r#type: String,
    /// What is wrong, for people; the same for all refusals with this code.
    title: &'a str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this very request, for people.
    detail: String,
    /// What is wrong, for programs.
    code: &'a str,
    /// The request id of the answer, as the log has it.
    request_id: &'a str,
    /// Of `outcome_unknown`: the order that may or may not be queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    order_id: Option<OrderId>,
    /// Of `outcome_unknown`: where that order is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status_url: Option<String>,
    /// Of `invalid`: everything that is wrong with the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<&'a Faults>,
    /// Of `conflict`: the order as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<AnyOrder>)]
    order: Option<&'a RawValue>,
    /// Of `conflict`: the payment is listed as unmatched.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unmatched: bool,
    /// Of `sold_out`: `all_held` while some of it is held for orders that may not be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<&'a str>,
    /// Of `not_open`: when the sale begins.
    #[serde(
        serialize_with = "timestamp_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    opens_at: Option<DateTime<Utc>>,
    /// Of `limit_reached`: how many pieces the limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit: Option<i32>,
    /// Of `price_changed`: what one costs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unit_price_minor: Option<i64>,
    /// Of `paused`: when purchases go on by themselves, if that is known.
    #[serde(
        serialize_with = "timestamp_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    until: Option<DateTime<Utc>>,
}

impl<'a> ProblemBody<'a> {
    /// The body of a refusal. `methods` are those that the path takes.
    #[must_use]
    pub(crate) fn of(
        problem: &'a Problem,
        request_id: &'a str,
        methods: impl FnOnce() -> String,
    ) -> Self {
        let kind = problem.kind();
        let order_id = problem.order_id();
        let errors = match problem {
            Problem::InvalidBody(faults) => Some(faults),
            _ => None,
        };
        let (order, unmatched) = match problem {
            Problem::Conflict { order, unmatched } => {
                (serde_json::from_slice(order).ok(), *unmatched)
            }
            _ => (None, false),
        };
        let why = match problem {
            Problem::NotSold(NotSold { why, .. }) => Some(why),
            _ => None,
        };
        Self {
            r#type: format!("urn:hotrow:problem:{}", kind.as_str()),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: match problem {
                Problem::MethodNotAllowed => format!("{problem}: it takes {}", methods()),
                _ => problem.to_string(),
            },
            code: kind.as_str(),
            request_id,
            order_id,
            status_url: order_id.map(super::status_url),
            errors,
            order,
            unmatched,
            state: (why == Some(&Why::SoldOut { is_held: true })).then_some("all_held"),
            opens_at: match why {
                Some(Why::NotOpen { opens_at, .. }) => Some(*opens_at),
                _ => None,
            },
            limit: match why {
                Some(Why::LimitReached { limit }) => Some(*limit),
                _ => None,
            },
            unit_price_minor: match why {
                Some(Why::PriceChanged { unit_price_minor }) => Some(*unit_price_minor),
                _ => None,
            },
            until: match problem {
                Problem::Stopped { until, .. } => *until,
                _ => None,
            },
        }
    }
}
