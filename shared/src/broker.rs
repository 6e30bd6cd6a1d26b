//! One supervised connection to RabbitMQ: whoever needs a channel asks here, and the first to
//! find the connection gone makes the next one.
//!
//! lapin's own recovery stays off: with it, a channel that the broker closed would leave its
//! consumer waiting for ever.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};
use tokio::time::timeout;

/// How long the broker may take for one step of getting ready: connect, open a channel.
pub const BROKER_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a good-bye may take.
const GOOD_BYE_MAX: Duration = Duration::from_secs(1);

/// How long the broker may say nothing before the connection counts as dead, unless `AMQP_URL` says
/// otherwise with `?heartbeat=`.
const HEARTBEAT_SECONDS: u16 = 10;

/// The largest frame, in bytes, unless `AMQP_URL` says otherwise with `?frame_max=`. lapin has room for
/// 32 frames in each direction of each connection: of the usual 128 KiB, 8 MiB. Larger messages travel
/// in several.
const FRAME_MAX: u32 = 16 * 1024;

/// The broker cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It refused, closed or broke the connection or channel.
    #[error("broker: {0}")]
    Failed(#[from] lapin::Error),
    /// It did not answer in time.
    #[error("broker: no answer within {BROKER_ANSWER_MAX:?}")]
    Silent,
    /// It did not take responsibility for a message.
    #[error("broker: a message was not confirmed")]
    NotConfirmed,
    /// It ended the channel.
    #[error("broker: the channel has ended")]
    Ended,
}

/// A connection for one purpose. Publishing and consuming want one each: a broker that blocks
/// publishers stops reading the whole connection, acknowledgements included.
pub struct Broker {
    uri: AMQPUri,
    name: String,
    /// Held while connecting, so that many who ask at once make one connection.
    connecting: tokio::sync::Mutex<()>,
    current: Mutex<Option<Arc<Connection>>>,
}

impl Broker {
    /// A broker that is not connected yet. `name` is what the management page shows.
    #[must_use]
    pub fn new(uri: &AMQPUri, name: &str) -> Self {
        let mut uri = uri.clone();
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        Self {
            uri,
            name: name.to_owned(),
            connecting: tokio::sync::Mutex::default(),
            current: Mutex::default(),
        }
    }

    /// A new channel, on a new connection if there is none that works.
    ///
    /// # Errors
    /// The broker refuses or does not answer within [`BROKER_ANSWER_MAX`].
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        let connection = self.connection().await?;
        let Ok(channel) = timeout(BROKER_ANSWER_MAX, connection.create_channel()).await else {
            self.forget(&connection);
            return Err(BrokerError::Silent);
        };
        Ok(channel?)
    }

    /// Whether the broker has asked this connection to stop publishing (memory or disk alarm).
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.current()
            .is_some_and(|connection| connection.status().blocked())
    }

    /// Whether there is a connection that works, as far as we know.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.current().is_some()
    }

    /// Forgets a connection that does not answer, so that the next caller makes a new one. Another
    /// caller may have done so already.
    fn forget(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, connection))
        {
            *current = None;
        }
    }

    /// Says good-bye to the broker.
    pub async fn close(&self) {
        if let Some(connection) = self.current() {
            // The broker cleans up behind a connection that just ends, too.
            let _ = timeout(GOOD_BYE_MAX, connection.close(200, "done".into())).await;
            self.forget(&connection);
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>, BrokerError> {
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        let connection = timeout(BROKER_ANSWER_MAX, connecting)
            .await
            .map_err(|_| BrokerError::Silent)??;
        let connection = Arc::new(connection);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .filter(|connection| connection.status().connected())
            .map(Arc::clone)
    }
}
