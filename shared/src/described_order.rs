//! An order as clients are told of it: one schema for each status, told apart by the member `status`.
//!
//! All settled orders are one type, [`OrderDocument`]. Its schema says what that type serialises, and the schema of
//! each status is the same with the members narrowed to what they are there.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, Discriminator, Object, OneOfBuilder, Ref, RefOr, Schema},
};

use crate::{
    id::OrderId,
    order::{Quantity, Sku},
    outcome::{OrderDocument, Reason, Status},
    schema::{example, never_null, null, object, words},
};

/// An order that waits to be settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({"order_id": EXAMPLE_ID, "status": "queued", "estimated_wait_ms": 40})))]
pub struct QueuedOrder {
    /// The id that was asked for.
    pub order_id: OrderId,
    /// It is accepted, and not settled yet.
    pub status: Queued,
    /// How long it will wait, in milliseconds, as far as can be told. It grows while nothing is settled.
    #[schema(minimum = 0, examples(40))]
    pub estimated_wait_ms: u64,
}

/// The status of an order that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    /// The only one.
    Queued,
}

/// An item of a settled order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderedItem {
    /// The product.
    pub sku: Sku,
    /// How many of it.
    pub quantity: Quantity,
    /// What one cost at the moment of settling, in the currency's smallest unit; null for a product that was not known.
    #[schema(required, minimum = 0, examples(4900))]
    pub unit_price_minor: Option<i64>,
}

/// Any order, as `GET /v1/orders/{order_id}` shows it: the schema `Order`.
#[derive(Debug, Clone, Copy)]
pub struct AnyOrder;

/// An order id of the examples.
pub const EXAMPLE_ID: &str = "01a1fe23-4721-808d-a41e-5192f1f4fdd2";

/// Every status of a settled order.
const SETTLED: [Status; 6] = [
    Status::Reserved,
    Status::Confirmed,
    Status::Expired,
    Status::Cancelled,
    Status::Rejected,
    Status::Failed,
];

/// What the description says of `Order`.
const DESCRIPTION: &str = "An order, told apart by `status`. Statuses and reasons may be added: treat a status that \
    you do not know as one that may still change, and show a reason that you do not know as it is.";

impl ToSchema for AnyOrder {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Order")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        QueuedOrder::schemas(schemas);
        OrderedItem::schemas(schemas);
        schemas.push((OrderedItem::name().into_owned(), OrderedItem::schema()));
        schemas.push((name_of("queued"), QueuedOrder::schema()));
        for status in SETTLED {
            let name = name_of(status.as_str());
            schemas.push((name, settled(status).into()));
        }
    }
}

impl PartialSchema for AnyOrder {
    fn schema() -> RefOr<Schema> {
        let words = SETTLED.map(Status::as_str);
        let words = || ["queued"].into_iter().chain(words);
        let reference = |word: &str| Ref::from_schema_name(name_of(word));
        let mapping = words().map(|word| (word, reference(word).ref_location));
        let schema = OneOfBuilder::new()
            .description(Some(DESCRIPTION))
            .discriminator(Some(Discriminator::with_mapping("status", mapping)));
        words()
            .fold(schema, |schema, word| schema.item(reference(word)))
            .into()
    }
}

/// The name of the schema of a status.
fn name_of(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    format!("{}{rest}Order", first.to_ascii_uppercase())
}

/// The schema of orders that stand so.
fn settled(status: Status) -> Object {
    let mut order = object(OrderDocument::<Vec<OrderedItem>>::schema());
    order.description = Some(meaning(status).to_owned());
    order.examples = vec![example_of(status)];
    let status_schema = words([status.as_str()], meaning(status));
    let properties = &mut order.properties;
    properties.insert("status".to_owned(), status_schema.into());
    let items = ArrayBuilder::new()
        .items(Ref::from_schema_name(OrderedItem::name()))
        .min_items(Some(1))
        .description(Some(
            "What was ordered, each with its price at the time of settling.",
        ));
    properties.insert("items".to_owned(), items.into());
    let has_reason = !matches!(status, Status::Reserved | Status::Confirmed);
    let was_taken = !matches!(status, Status::Rejected | Status::Failed);
    let narrowed = [
        ("reason", has_reason),
        ("total_minor", was_taken),
        ("currency", was_taken),
        ("expires_at", status == Status::Reserved),
        ("restocked", status == Status::Cancelled),
    ];
    for (member, is_there) in narrowed {
        narrow(&mut order, member, is_there);
    }
    if !matches!(status, Status::Confirmed | Status::Cancelled) {
        narrow(&mut order, "payment_reference", false);
    }
    order
}

/// Says of a member that is null or not whether it is.
fn narrow(order: &mut Object, member: &str, is_there: bool) {
    let Some(schema) = order.properties.get_mut(member) else {
        return;
    };
    let whole = object(schema.clone());
    *schema = if is_there {
        never_null(whole).into()
    } else {
        null(whole.description.as_deref().unwrap_or_default()).into()
    };
}

fn meaning(status: Status) -> &'static str {
    match status {
        Status::Reserved => "The goods are held until `expires_at`, and wait to be paid.",
        Status::Confirmed => "The customer has the goods. The shop may still cancel the order.",
        Status::Expired => {
            "The hold was over before a payment came. A late payment may still confirm the order."
        }
        Status::Cancelled => "The order was given up. Nothing changes it any more.",
        Status::Rejected => {
            "The customer does not get the goods, and `reason` says why. Nothing changes it any more."
        }
        Status::Failed => "The order could not be settled, and an operator has to look at it.",
    }
}

/// An order that stands so, as it is shown.
///
/// # Panics
/// One of its parts does not fit, which a unit test would see.
#[must_use]
pub fn example_of(status: Status) -> Value {
    let at = |seconds: i64| chrono::DateTime::from_timestamp(1_795_000_000 + seconds, 0);
    let at = |seconds| at(seconds).unwrap_or_default();
    let is = |one| status == one;
    let is_changed = matches!(status, Status::Expired | Status::Cancelled);
    let is_rejected = matches!(status, Status::Rejected | Status::Failed);
    let items = [OrderedItem {
        sku: Sku::try_from("chair-123").expect("a SKU"),
        quantity: Quantity::try_from(1).expect("a quantity"),
        unit_price_minor: (!is(Status::Failed)).then_some(4_900),
    }];
    example(OrderDocument {
        order_id: OrderId::trusted(EXAMPLE_ID.parse().expect("a UUID")),
        alias_of: None,
        status: status.as_str(),
        revision: if is_changed { 2 } else { 1 },
        reason: match status {
            Status::Reserved | Status::Confirmed => None,
            Status::Expired => Some(Reason::NotPaid.as_str()),
            Status::Cancelled => Some(Reason::ByCustomer.as_str()),
            Status::Rejected => Some(Reason::SoldOut.as_str()),
            Status::Failed => Some(Reason::DeadLettered.as_str()),
        },
        customer_id: "c-42",
        items: items.as_slice(),
        total_minor: (!is_rejected).then_some(4_900),
        currency: (!is_rejected).then_some("EUR"),
        accepted_at: at(0),
        settled_at: at(1),
        updated_at: at(if is_changed { 600 } else { 1 }),
        expires_at: is(Status::Reserved).then(|| at(601)),
        payment_reference: None,
        restocked: is(Status::Cancelled).then_some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_a_schema_that_its_example_has_the_members_of() {
        let mut schemas = Vec::new();
        AnyOrder::schemas(&mut schemas);
        for status in SETTLED {
            let name = name_of(status.as_str());
            let (_, schema) = schemas
                .iter()
                .find(|(known, _)| *known == name)
                .expect("a schema");
            let schema = object(schema.clone());
            let example = example_of(status);
            let members: Vec<_> = example.as_object().expect("an object").keys().collect();
            let mut described: Vec<_> = schema.properties.keys().collect();
            described.sort_unstable();
            assert_eq!(members, described, "{name}");
            assert_eq!(schema.required.len(), described.len(), "{name}");
        }
    }
}
