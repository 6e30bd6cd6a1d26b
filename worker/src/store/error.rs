//! What the errors of the database mean for a settlement: try again, or give up an order.

use std::time::Duration;

/// A settlement did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing is wrong with the orders: the same again may work.
    #[error("not settled: {source}")]
    Transient {
        /// The kind of trouble, for the metric.
        cause: RetryCause,
        /// What the database said.
        source: sqlx::Error,
    },
    /// Whether it happened is not known: there was no answer in this time.
    #[error("no answer from the database within {0:?}")]
    NoAnswer(Duration),
    /// An order that a repeat is another name of was removed meanwhile.
    #[error("the order that a repeat names is gone")]
    Vanished,
    /// Orders or ledger have no part for a day.
    #[error("refused by the database: {0}")]
    MissingDay(sqlx::Error),
    /// The database does not take one of the orders, and never will.
    #[error("refused by the database: {0}")]
    Refused(sqlx::Error),
}

/// Why a settlement is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryCause {
    /// The connection broke or was not to be had.
    Connection,
    /// Two transactions could not be put in sequence.
    Serialization,
    /// Two transactions waited for each other.
    Deadlock,
    /// Somebody holds a row for too long.
    LockTimeout,
    /// The server is a standby now.
    ReadOnly,
    /// Another worker settled one of the orders at this moment.
    DuplicateKey,
    /// No answer in time.
    Timeout,
    /// The part of a day has to be made first.
    MissingDay,
    /// Full disk, missing table, missing permission and the like: a person has to act.
    Other,
}

impl RetryCause {
    pub(crate) const ALL: [Self; 9] = [
        Self::Connection,
        Self::Serialization,
        Self::Deadlock,
        Self::LockTimeout,
        Self::ReadOnly,
        Self::DuplicateKey,
        Self::Timeout,
        Self::MissingDay,
        Self::Other,
    ];

    /// Whether the server cannot be reached or cannot write, whatever is asked of it.
    pub(crate) const fn is_server_away(self) -> bool {
        matches!(self, Self::Connection | Self::ReadOnly)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Serialization => "serialization",
            Self::Deadlock => "deadlock",
            Self::LockTimeout => "lock_timeout",
            Self::ReadOnly => "read_only",
            Self::DuplicateKey => "duplicate_key",
            Self::Timeout => "timeout",
            Self::MissingDay => "missing_day",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// Why the same again may work; none if it never will.
    pub(crate) fn retry_cause(&self) -> Option<RetryCause> {
        match self {
            Self::Transient { cause, .. } => Some(*cause),
            Self::NoAnswer(_) => Some(RetryCause::Timeout),
            Self::Vanished => Some(RetryCause::Serialization),
            Self::MissingDay(_) => Some(RetryCause::MissingDay),
            Self::Refused(_) => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Only what PostgreSQL says *about the data* counts against an order: SQLSTATE classes 21, 22, 23, 44, 54
    /// and P0 (a trigger's `raise exception`). Anything unforeseen is tried again, because a dead letter for a
    /// sound order is worse than a batch that waits for a person.
    fn from(error: sqlx::Error) -> Self {
        let cause = match &error {
            // The one violation of a check that names a table and no constraint (PostgreSQL, ExecFindPartition):
            // the table is the parent.
            sqlx::Error::Database(database)
                if database.code().as_deref() == Some("23514")
                    && database.constraint().is_none()
                    && matches!(
                        database.table(),
                        Some("orders" | "order_changes" | "inventory_ledger")
                    ) =>
            {
                return Self::MissingDay(error);
            }
            sqlx::Error::Database(database) => match database.code().as_deref().unwrap_or_default()
            {
                "23505" => RetryCause::DuplicateKey,
                "40001" => RetryCause::Serialization,
                "40P01" => RetryCause::Deadlock,
                "55P03" => RetryCause::LockTimeout,
                "25006" => RetryCause::ReadOnly,
                "57014" => RetryCause::Timeout,
                code => match code.get(..2).unwrap_or_default() {
                    "21" | "22" | "23" | "44" | "54" | "P0" => return Self::Refused(error),
                    "08" | "57" => RetryCause::Connection,
                    _ => RetryCause::Other,
                },
            },
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => RetryCause::Connection,
            _ => RetryCause::Other,
        };
        Self::Transient {
            cause,
            source: error,
        }
    }
}
