//! What is for sale in the demo.

use std::time::Duration;

/// What the stampede wants; how many there are is an argument.
pub(crate) const SKU: &str = "chair-123";
/// What the buyers of the second act want, so many, each held for so long until it is paid.
pub(crate) const LAMP: &str = "lamp-9";
pub(crate) const LAMPS: u64 = 300;
pub(crate) const HOLD: Duration = Duration::from_secs(2);
/// How long after its end a hold expires. In production it is 8 s, so that a payment of the last moment has time to
/// be queued; `DEVELOPMENT` allows less, and nobody here has to wait.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// What nobody of these wants, so that a person who looks around can buy it, and has time to type.
pub(crate) const SPARE: &str = "table-7";
pub(crate) const SPARES: u64 = 100;
pub(crate) const SPARE_HOLD: Duration = Duration::from_mins(10);
/// What the crowd and the bots of the third act want, so many, and how many of them a customer may have.
pub(crate) const TICKET: &str = "ticket-2";
pub(crate) const TICKETS: u64 = 600;
pub(crate) const TICKETS_EACH: i64 = 2;
