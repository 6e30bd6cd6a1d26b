//! What the claims, the demo and the measurements stand on: real servers, the real binaries, load,
//! faults, and the conservation law read from the database.

pub mod alias;
pub mod browser;
pub mod client;
pub mod described;
pub mod issuer;
pub mod lag;
pub mod law;
pub mod load;
pub mod meter;
pub mod metrics;
pub mod place;
pub mod processes;
pub mod proxy;
pub mod servers;
pub mod stream;
pub mod users;
pub mod wait;
pub mod window;

pub use browser::Browser;
pub use client::Client;
pub use issuer::Issuer;
pub use load::Load;
pub use place::Place;
pub use processes::{Process, Settings};
pub use proxy::{Mode, Proxy};
pub use stream::Stream;
pub use users::Users;
pub use window::Window;
