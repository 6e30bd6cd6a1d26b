//! PostgreSQL and RabbitMQ for tests, the demo and measurements, and the driver of a browser for claims about pages:
//! found, started or installed.
//!
//! `DATABASE_URL` and `AMQP_URL` are used where they are set, each for itself. Otherwise the
//! installed programs are started privately, beside whatever else the machine runs, and end with
//! this process, however it ends. As root on Debian or Ubuntu, missing programs are installed.

mod chromedriver;
mod guardian;
mod identity;
mod install;
mod ports;
mod postgres;
pub mod programs;
mod rabbitmq;

use std::env;

use tokio::sync::OnceCell;

pub use self::{
    chromedriver::Chromedriver, identity::Identity, ports::free_port, postgres::Postgres,
    rabbitmq::RabbitMq,
};

/// The two servers that a pipeline needs.
#[derive(Clone)]
pub struct Servers {
    /// Where orders are settled.
    pub postgres: Postgres,
    /// Where accepted orders wait.
    pub rabbitmq: RabbitMq,
}

/// The servers that all tests of this process share, started by the first that asks.
///
/// # Errors
/// When a server can be neither found nor started nor installed; the message says what to do.
pub async fn shared() -> anyhow::Result<&'static Servers> {
    // Never dropped: the guardians notice the end of the process.
    static SHARED: OnceCell<Servers> = OnceCell::const_new();
    SHARED.get_or_try_init(Servers::find).await
}

impl Servers {
    /// The servers that the environment names; new ones of our own for those that it does not.
    ///
    /// # Errors
    /// See [`shared`].
    pub async fn find() -> anyhow::Result<Self> {
        let [database_url, amqp_url, management_url] =
            ["DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL"].map(setting);
        let wanted: Vec<_> = [
            (&database_url, install::POSTGRES),
            (&amqp_url, install::RABBITMQ),
        ]
        .into_iter()
        .filter_map(|(url, package)| url.is_none().then_some(package))
        .collect();
        // Both in one go, rather than by each server for itself.
        install::ensure_installed(&wanted).await?;

        let postgres = async {
            match &database_url {
                Some(url) => Postgres::at(url),
                None => Postgres::start().await,
            }
        };
        let rabbitmq = async {
            match &amqp_url {
                Some(url) => RabbitMq::at(url, management_url.as_deref()),
                None => RabbitMq::start().await,
            }
        };
        let (postgres, rabbitmq) = tokio::try_join!(postgres, rabbitmq)?;
        Ok(Self { postgres, rabbitmq })
    }
}

fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Python that Debian's packages of Python's libraries are for, with `pika`.
///
/// # Errors
/// When it is missing and cannot be installed.
pub async fn python_with_pika() -> anyhow::Result<&'static str> {
    install::ensure_installed(&[install::PIKA]).await?;
    Ok("/usr/bin/python3")
}
