//! A member that a change names, or does not.

use crate::http::json::Value;

/// What is to become of something that may be there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// It stays as it is.
    Keep,
    /// It is not there any more.
    Remove,
    /// It is this.
    Set(T),
}

impl<T> Change<T> {
    /// Reads a member: one that is absent stays, and null removes.
    pub(super) fn read(
        value: Option<&Value>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<Self> {
        match value {
            None => Some(Self::Keep),
            Some(Value::Null) => Some(Self::Remove),
            Some(value) => read(value).map(Self::Set),
        }
    }

    /// What is there afterwards.
    pub(crate) fn applied_to(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Remove => None,
            Self::Set(value) => Some(value),
        }
    }
}
