//! Who calls, and who may: tokens, the keys that verify them, and the gate in front of every route.

mod admin;
mod caller;
mod check;
mod fetch;
mod gate;
mod jwks;
mod keys;
mod metrics;
mod provider;
mod refused;
mod remembered;
mod role_claim;
pub(crate) mod settings;
mod token;
mod who;

#[cfg(test)]
pub(crate) use self::caller::Identity;
pub use self::settings::AuthSettings;
pub(crate) use self::{
    caller::Caller,
    check::Auth,
    gate::{CallsFrom, Gate},
    settings::AuthArgs,
    who::Who,
};
