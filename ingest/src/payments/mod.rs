//! Payments that did not pay their order: a person, or the shop's program, gives the money back and resolves them.

pub(crate) mod handler;
mod store;
pub(crate) mod stripe;

use sqlx::PgPool;

/// Lists and resolves unmatched payments.
pub(crate) struct PaymentsDesk {
    pub(crate) pool: PgPool,
}
