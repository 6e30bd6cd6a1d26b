//! The audit log: every change by a person or a shop's program, written in the transaction of the change.

mod by;
pub(crate) mod handler;
mod store;

pub(crate) use self::{
    by::By,
    store::{Entry, json, record},
};

use sqlx::PgPool;

/// Shows the audit log.
pub(crate) struct AuditDesk {
    pub(crate) pool: PgPool,
}
