//! One supervised connection to RabbitMQ: whoever needs a channel asks here, and the first to
//! find the connection gone makes the next one, to any node of the cluster that answers.
//!
//! lapin's own recovery stays off: with it, a channel that the broker closed would leave its
//! consumer waiting for ever.

mod attempt;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Connection, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use tokio::time::{sleep, timeout};

pub use self::attempt::BROKER_ANSWER_MAX;
use crate::{
    addresses::{AMQP_CA, Brokers, Node},
    tls,
};

/// How long one node is waited for before the next is asked, too. The first that answers is taken:
/// a slow node still has the whole [`BROKER_ANSWER_MAX`], and one that swallows packets costs a second.
const NODE_TURN: Duration = Duration::from_secs(1);

/// How long a good-bye may take.
const GOOD_BYE_MAX: Duration = Duration::from_secs(1);

/// The heartbeat that is agreed on with the broker, unless `AMQP_URL` says otherwise with
/// `?heartbeat=`. A connection on which nothing came for twice as long counts as dead.
const HEARTBEAT_SECONDS: u16 = 5;

/// The largest frame, in bytes, unless `AMQP_URL` says otherwise with `?frame_max=`. lapin has room for
/// 32 frames in each direction of each connection: of the usual 128 KiB, 8 MiB. Larger messages travel
/// in several.
const FRAME_MAX: u32 = 16 * 1024;

/// The broker cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No node can be connected to.
    #[error("AMQP_URL: no connection to {0}")]
    Unreachable(String),
    /// It refused, closed or broke the connection or channel.
    #[error("broker: {0}")]
    Failed(lapin::Error),
    /// It did not answer in time.
    #[error("broker: no answer in time")]
    Silent,
    /// It did not take responsibility for a message.
    #[error("broker: a message was not confirmed")]
    NotConfirmed,
    /// It ended the channel.
    #[error("broker: the channel has ended")]
    Ended,
    /// It takes no messages now: an alarm of its memory or disk.
    #[error("broker: it takes no messages (an alarm of its memory or disk)")]
    Blocked,
}

impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        Self::Failed(error)
    }
}

impl BrokerError {
    /// Why the broker refused one request, with its words, if it did.
    pub(crate) fn refusal(&self) -> Option<(&AMQPSoftError, &str)> {
        match self {
            Self::Failed(error) => soft_error(error),
            _ => None,
        }
    }
}

/// Why the broker refused one request and ended the channel for it, with its words. (AMQP 0-9-1, "soft error".)
pub(crate) fn soft_error(error: &lapin::Error) -> Option<(&AMQPSoftError, &str)> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    match error.kind() {
        AMQPErrorKind::Soft(why) => Some((why, error.get_message().as_str())),
        AMQPErrorKind::Hard(_) => None,
    }
}

/// Whether the broker says that a queue or an exchange is missing.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    matches!(soft_error(error), Some((AMQPSoftError::NOTFOUND, _)))
}

/// Whether the broker says that the user may not do this.
pub(crate) fn is_denied(error: &BrokerError) -> bool {
    matches!(error.refusal(), Some((AMQPSoftError::ACCESSREFUSED, _)))
}

/// A connection for one purpose. Publishing and consuming want one each: a broker that blocks
/// publishers stops reading the whole connection, acknowledgements included.
pub struct Broker {
    nodes: Vec<Node>,
    /// The node to begin with: the last that answered. At first a random one, so that the clients of a
    /// cluster, and those of a node that is lost, spread over all others.
    first: AtomicUsize,
    name: String,
    /// Held while connecting, so that many who ask at once make one connection.
    connecting: tokio::sync::Mutex<()>,
    current: Mutex<Option<Arc<Connection>>>,
}

impl Broker {
    /// A broker that is not connected yet. `name` is what the management page shows.
    #[must_use]
    pub fn new(brokers: &Brokers, name: &str) -> Self {
        let mut nodes = brokers.nodes().to_vec();
        for node in &mut nodes {
            let query = &mut node.uri.query;
            query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
            query.frame_max.get_or_insert(FRAME_MAX);
        }
        Self {
            first: AtomicUsize::new(rand::random_range(0..nodes.len().max(1))),
            nodes,
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
        let connection = Arc::new(self.connect().await?);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Asks one node after the other, and takes the first that answers.
    async fn connect(&self) -> Result<Connection, BrokerError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut turns = (0..self.nodes.len()).map(|turn| (first + turn) % self.nodes.len());
        let mut asked = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            let next = turns.next();
            if let Some(at) = next {
                asked.push(async move { (at, self.ask(at).await) });
            }
            tokio::select! {
                answer = asked.next() => match answer {
                    Some((at, Ok(connection))) => {
                        self.first.store(at, Ordering::Relaxed);
                        return Ok(connection);
                    }
                    Some((at, Err(why))) => failures.push(format!("{}: {why}", self.nodes[at])),
                    None => return Err(BrokerError::Unreachable(failures.join("; "))),
                },
                () = sleep(NODE_TURN), if next.is_some() => {}
            }
        }
    }

    async fn ask(&self, at: usize) -> Result<Connection, String> {
        let node = &self.nodes[at];
        match timeout(BROKER_ANSWER_MAX, attempt::connect(node, &self.name)).await {
            Ok(connected) => connected.map_err(|error| reason(&error, node)),
            Err(_) => Err(format!("no answer within {BROKER_ANSWER_MAX:?}")),
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .filter(|connection| connection.status().connected())
            .map(Arc::clone)
    }
}

/// Why a node cannot be connected to, and what a person can do about it.
fn reason(error: &lapin::Error, node: &Node) -> String {
    let authority = &node.uri.authority;
    let user = &authority.userinfo.username;
    if let Some((AMQPSoftError::ACCESSREFUSED, _)) = soft_error(error) {
        return format!(
            "it refuses the user {user:?} or the password; special characters in a password are percent-encoded"
        );
    }
    match error.kind() {
        ErrorKind::IOError(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "connection refused: is RabbitMQ running there, and is the port right?".into()
            }
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::UnexpectedEof => {
                "it closed the connection: is that the port of RabbitMQ for AMQP, and is TLS wanted \
                 (amqps://, usually port 5671) or not (amqp://, usually port 5672)?"
                    .into()
            }
            _ => {
                let told = error.to_string();
                tls::reason(&told, &authority.host, AMQP_CA).unwrap_or(told)
            }
        },
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => format!(
                "it does not let the user {user:?} use the virtual host {:?}: {}",
                node.uri.vhost,
                error.get_message()
            ),
            _ => error.get_message().to_string(),
        },
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            "what answers there does not speak AMQP 0-9-1".into()
        }
        _ => error.to_string(),
    }
}
