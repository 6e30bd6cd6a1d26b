//! The request id: what ties the log lines of one HTTP request together, through the queue and the
//! worker to a dead letter.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest request id, in characters.
pub const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The id of one HTTP request, the client's own or one made for it: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Box<str>")]
pub struct RequestId(Box<str>);

/// The text is not a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {REQUEST_ID_LENGTH_MAX} visible ASCII characters")]
pub struct NotARequestId;

impl TryFrom<Box<str>> for RequestId {
    type Error = NotARequestId;

    fn try_from(text: Box<str>) -> Result<Self, NotARequestId> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if visible && (1..=REQUEST_ID_LENGTH_MAX).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(NotARequestId)
        }
    }
}

impl RequestId {
    /// A new id, for a request that brought none.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string().into())
    }

    /// The text, as it stands in `X-Request-Id`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
