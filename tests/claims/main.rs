//! The claims: one binary, one module per topic, each test's name a sentence that has to hold.

mod aliases;
mod browser;
mod builds;
mod demo;
mod events;
mod floor_plan;
mod guardians;
mod http;
mod inside;
mod laws;
mod life;
mod loads;
mod localhost;
mod meters;
mod places;
mod proxies;
mod tls;
mod upgrade;
mod webhooks;
mod worker;
