//! One attempt to connect to one node, which leaves nothing behind when it is given up.
//!
//! lapin serves each connection by a thread, which it starts before the broker has said a word. A
//! future that is dropped does not end it: as long as a node accepts connections and says nothing,
//! every attempt would leave a thread, a socket and a megabyte of buffers. So the socket of an
//! attempt that is given up is shut down, and the thread ends by itself.

use std::{
    fs, io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties,
    tcp::{AsyncTcpStream, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{net::lookup_host, time::timeout};

use crate::addresses::Node;

/// How long the broker may take for one step of getting ready: connect, open a channel.
pub const BROKER_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Connects to a node. Dropping the future gives the attempt up.
pub(super) async fn connect(node: &Node, name: &str) -> Result<Connection, lapin::Error> {
    let attempt = Attempt::default();
    let socket = Arc::clone(&attempt.0);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime()?;
    let reactor = runtime.clone();
    let ca = node.ca.clone();
    let open = async move |uri: AMQPUri, _| {
        let host = uri.authority.host.as_str();
        let addresses: Vec<_> = lookup_host((host, uri.authority.port))
            .await
            .map_err(|_| io::Error::other("the name of the host cannot be resolved"))?
            .collect();
        let connecting = AsyncTcpStream::connect(&reactor, &addresses[..]);
        let stream = timeout(BROKER_ANSWER_MAX, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if let AsyncTcpStream::Plain(stream) = &stream {
            hold(&socket, stream.get_ref())?;
        }
        Ok(match uri.scheme {
            AMQPScheme::AMQP => stream,
            AMQPScheme::AMQPS => {
                // A few kilobytes, beside a handshake.
                let ca = ca.as_ref().map(fs::read_to_string).transpose()?;
                let config = TLSConfig {
                    cert_chain: ca.as_deref(),
                    ..TLSConfig::default()
                };
                let tls = stream.into_tls(host, config).await;
                tls.map_err(|error| io::Error::other(no_tls(&error)))?
            }
        })
    };
    let connection = Connection::connector(node.uri.clone(), runtime, open, properties).await?;
    attempt.succeeded();
    Ok(connection)
}

/// Why there is no TLS. Whoever takes another port for that of TLS usually takes the plain one.
fn no_tls(error: &io::Error) -> String {
    let told = error.to_string();
    if told.contains("corrupt message") {
        return "what answers there does not speak TLS, which is usually at port 5671".into();
    }
    told
}

#[derive(Default)]
struct Attempt(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    None,
    /// A second handle on it.
    Open(TcpStream),
    GivenUp,
}

impl Attempt {
    fn succeeded(self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Socket::None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(stream) = &*socket {
            // Fails when the other side was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
        *socket = Socket::GivenUp;
    }
}

/// Keeps a second handle on the socket, unless nobody waits for it any more.
fn hold(socket: &Mutex<Socket>, stream: &impl AsFd) -> io::Result<()> {
    let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*socket, Socket::GivenUp) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    *socket = Socket::Open(stream.as_fd().try_clone_to_owned()?.into());
    Ok(())
}
