//! The bodies of requests as they are described. They are read by hand: see [`super::bodies`].
#![expect(dead_code, reason = "they are described and never built")]

use chrono::{DateTime, Utc};
use hotrow_shared::event::EventType;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// The types of events, in the words of the interface.
pub(super) struct EventTypeWord;

impl ToSchema for EventTypeWord {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventType".into()
    }
}

impl PartialSchema for EventTypeWord {
    fn schema() -> RefOr<Schema> {
        let words = EventType::ALL.map(EventType::as_str);
        hotrow_shared::schema::words(words, "A type of events.").into()
    }
}

/// An endpoint to be.
#[derive(ToSchema)]
#[schema(as = WebhookNew)]
pub(super) struct NewEndpointRequest {
    /// Where events are sent: `https://`, without a user, a password or a fragment.
    #[schema(
        max_length = 2_048,
        format = "uri",
        pattern = "^https?://",
        examples("https://shop.example/hotrow")
    )]
    url: String,
    /// What it is sent. None of them, or null, means all but `order.rejected` and `webhook.disabled`.
    types: Option<Vec<EventTypeWord>>,
    /// For people, without control characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    description: Option<String>,
}

/// What of an endpoint is to change.
#[derive(ToSchema)]
#[schema(as = WebhookPatch)]
pub(super) struct PatchRequest {
    /// Where events are sent.
    #[schema(
        nullable = false,
        max_length = 2_048,
        format = "uri",
        pattern = "^https?://",
        examples("https://shop.example/hotrow")
    )]
    url: Option<String>,
    /// What it is sent. None of them, or null, means all but `order.rejected` and `webhook.disabled`.
    types: Option<Vec<EventTypeWord>>,
    /// For people, without control characters; null removes it.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    description: Option<String>,
    /// Whether anything is sent.
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

/// Which deliveries are sent again.
#[derive(ToSchema)]
#[schema(as = ReplaySpan)]
pub(super) struct ReplayRequest {
    /// The time of the first event.
    since: DateTime<Utc>,
    /// The first moment after the last event, later than `since`; now without it.
    until: Option<DateTime<Utc>>,
    /// Only deliveries that failed.
    #[schema(default = false)]
    only_failed: Option<bool>,
}
