//! What both Hotrow processes must agree on: nothing is here that only one of them needs.
//!
//! An order passes these files in this order: [`order`], [`id`], [`envelope`], [`topology`],
//! [`outcome`], [`news`], [`event`]. The rest is the ground both stand on.

pub mod addresses;
pub mod broker;
pub mod change;
pub mod clock_offset;
pub mod database;
pub mod described_order;
pub mod descriptors;
pub mod envelope;
pub mod event;
pub mod hangup;
pub mod id;
mod log;
pub mod metrics;
pub mod news;
pub mod order;
pub mod outcome;
pub mod panics;
pub mod publish;
pub mod request_id;
pub mod retry;
pub mod sale;
pub mod schema;
pub mod seal;
pub mod sealed;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
mod tls;
pub mod topology;
pub mod webhook;
