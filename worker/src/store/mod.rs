//! Every statement of the worker that reads or writes orders and stock, one file a table.
//!
//! The sequence of a settlement matters and is the same for everybody: rows are locked in SKU order,
//! and what is settled already is read *after* the lock, in a statement of its own. Whoever held the
//! lock before us has committed by then, so two workers with the same envelope cannot both miss it.

pub(crate) mod error;
pub(crate) mod inventory;
pub(crate) mod orders;
pub(crate) mod settlement;

pub(crate) use error::{RetryCause, StoreError};
