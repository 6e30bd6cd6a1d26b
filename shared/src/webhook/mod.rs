//! Endpoints of webhooks, as administrators and consumers are shown them, and where they may be.

mod networks;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::networks::{AllowedNetworks, Scheme};
use crate::{
    event::{Event, EventType},
    outcome::{timestamp, timestamp_if_any},
};

/// Most endpoints of an installation. Each has up to [`REQUESTS_MAX`] requests under way.
pub const ENDPOINTS_MAX: usize = 100;

/// Most requests to one endpoint at a time, of all processes together.
pub const REQUESTS_MAX: usize = 32;

/// How long the secret before signs, too, after a rotation.
pub const ROTATION: TimeDelta = TimeDelta::hours(24);

/// How long finished deliveries are kept.
pub const FINISHED_KEPT: TimeDelta = TimeDelta::days(3);

/// How the secret of an endpoint begins. The rest is base64. (Standard Webhooks 1.0, "Signature scheme".)
pub const SECRET_PREFIX: &str = "whsec_";

/// The type of the event that `POST …/test` sends. It is not in the stream, so it is no [`EventType`].
pub const TEST_EVENT: &str = "webhook.test";

/// Why nothing is sent to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// An administrator said so.
    ByAdmin,
    /// For days, all deliveries failed.
    Failing,
    /// It answered 410: it does not want any more.
    Gone,
}

impl DisabledReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::ByAdmin, Self::Failing, Self::Gone];

    /// The word in the database, in metrics and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ByAdmin => "by_admin",
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }
}

/// An endpoint without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct Endpoint {
    /// Its name.
    pub id: Uuid,
    /// Where events are sent.
    pub url: String,
    /// The words of the types that it is sent.
    pub types: Vec<String>,
    /// What an administrator wrote about it.
    #[schema(required)]
    pub description: Option<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Since when nothing is sent.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why: the word of a [`DisabledReason`].
    #[schema(required)]
    pub disabled_reason: Option<String>,
    /// Until when the secret before the last rotation signs, too.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// When it was registered.
    #[serde(serialize_with = "timestamp")]
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp")]
    pub updated_at: DateTime<Utc>,
}

impl Endpoint {
    /// The event that tells that nothing is sent to this endpoint any more, as JSON.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn disabled_event(
        &self,
        source: &str,
        at: DateTime<Utc>,
    ) -> Result<String, serde_json::Error> {
        let subject = self.id.to_string();
        let id = format!("{subject}/disabled/{}", at.timestamp_micros());
        let event = Event::new(EventType::WebhookDisabled, id, source, &subject, at, self);
        serde_json::to_string(&event)
    }

    /// An event that tries the endpoint out, and its id.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn test_event(
        &self,
        source: &str,
        at: DateTime<Utc>,
    ) -> Result<(String, String), serde_json::Error> {
        let subject = self.id.to_string();
        let id = format!("{subject}/test/{}", Uuid::new_v4().simple());
        let event = Event {
            specversion: "1.0",
            id: id.clone(),
            source,
            r#type: TEST_EVENT,
            subject: &subject,
            time: at,
            datacontenttype: "application/json",
            data: self,
        };
        Ok((id, serde_json::to_string(&event)?))
    }
}

/// The `webhook-id` of an event: the same each time that it is sent. A hash, because the event's own id may hold a dot,
/// which separates the parts of what is signed.
#[must_use]
pub fn webhook_id(event_id: &str) -> String {
    let hash = blake3::hash(event_id.as_bytes());
    format!("evt_{}", &hash.to_hex()[..HASH_LENGTH])
}

/// Hexadecimal digits of a hash in an id.
const HASH_LENGTH: usize = 32;
