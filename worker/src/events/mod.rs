//! Events: after the commit, programs beside Hotrow are told what became of orders and stock, at least once.
//!
//! A settlement writes one row that says that its events are not out (`store::outbox`). `publisher` writes them from
//! memory, beside settling, and removes the row once the stream has them. If it cannot, because the process ended,
//! the broker takes nothing or too much waits, the row stays, and `sweep` makes the same events from the tables.
//! Administrators' changes have such rows, too, and nobody but the sweep.

pub mod command;
mod publisher;
mod sender;
mod settlement;
mod sweep;
mod tables;

pub(crate) use self::{publisher::Publisher, sender::Sender, sweep::Sweep};
