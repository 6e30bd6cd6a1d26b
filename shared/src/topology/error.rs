//! Why a topology is not fit for work.

use lapin::protocol::AMQPSoftError;

use crate::broker::BrokerError;

/// Why the broker's topology is not fit for work.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The setting and the broker disagree: going on would strand or reorder orders.
    #[error(
        "PARTITIONS is {setting}, but the broker was set up with {found}: set PARTITIONS={found}, or \
         let the workers drain every queue, stop all processes and delete the hotrow.orders queues"
    )]
    Partitions {
        /// The value of `PARTITIONS`.
        setting: u16,
        /// What the queues of the broker say.
        found: u16,
    },
    /// Somebody declared it otherwise, and the broker changes nothing that is there.
    #[error(
        "the {what} is there, but not as Hotrow declares it ({told}): if it is one of the hotrow.orders queues, let the \
         workers drain it; delete it, and start again"
    )]
    Foreign {
        /// The exchange or queue.
        what: String,
        /// The words of the broker.
        told: String,
    },
    /// The user of this process may not declare, and nobody else has.
    #[error(
        "the {what} is missing, and the user of AMQP_URL may not declare it: start a worker, which does"
    )]
    Missing {
        /// The exchange or queue.
        what: String,
    },
    /// The broker did not answer as it should.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The lock for declaring was not to be had.
    #[error("cannot take the lock for declaring queues: {0}")]
    Lock(#[from] sqlx::Error),
}

impl From<lapin::Error> for TopologyError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

impl TopologyError {
    /// Says which exchange or queue it is that the broker will not have declared so.
    pub(super) fn of(error: BrokerError, kind: &str, name: &str) -> Self {
        match error.refusal() {
            Some((AMQPSoftError::PRECONDITIONFAILED, told)) => Self::Foreign {
                what: format!("{kind} {name}"),
                told: told.to_owned(),
            },
            _ => error.into(),
        }
    }
}
