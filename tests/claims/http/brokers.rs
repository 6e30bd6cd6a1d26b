//! Claims about several addresses of one broker: one that does not work costs a second, and the loss of
//! one in use a few.

use std::time::Duration;

use anyhow::Context;
use hotrow_shared::{addresses::Brokers, broker::Broker};
use hotrow_tests::{Client, Mode, Proxy, wait};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use url::Url;

use super::{CHAIR, SOON, assert_accepted, ingest, place, put_up, settled, worker};

/// A second for an address that does not work, and the rest for a busy machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);
/// How late orders are accepted again after the loss of a node.
const MOVED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn an_address_that_swallows_packets_or_says_nothing_costs_a_second() -> anyhow::Result<()> {
    let place = place().await?;
    let real = &place.amqp_url;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent_url = at(real, silent.local_addr()?.port())?;
    let swallowing = Swallowing::start().await?;
    let swallowing_url = at(real, swallowing.port)?;

    // Where a client begins is chosen by chance, so some begin with each.
    for bad in [&silent_url, &swallowing_url] {
        let brokers: Brokers = format!("{bad},{real}")
            .parse()
            .map_err(anyhow::Error::msg)?;
        for _ in 0..8 {
            let started = Instant::now();
            let broker = Broker::new(&brokers, "test");
            broker.channel().await?;
            assert!(
                started.elapsed() < CONNECTED_WITHIN,
                "{:?}",
                started.elapsed()
            );
            broker.close().await;
        }
    }

    let all = format!("{silent_url}, {swallowing_url}, {real}");
    let (ingest, worker) = tokio::try_join!(
        async { ingest(&place).set("AMQP_URL", &*all).start().await },
        async { worker(&place).set("AMQP_URL", &*all).start().await },
    )?;
    put_up(&ingest, CHAIR, 1).await?;
    let client = ingest.client()?;
    let order_id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    assert_eq!(settled(&client, order_id).await?["status"], "confirmed");
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_no_connection_behind() -> anyhow::Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("amqp://{}/%2f", silent.local_addr()?);
    let brokers: Brokers = url.parse().map_err(anyhow::Error::msg)?;
    let broker = Broker::new(&brokers, "test");
    let (channel, hung_up) = tokio::join!(broker.channel(), async {
        let (mut client, _) = silent.accept().await?;
        // However it ends.
        let _ = timeout(SOON, client.read_to_end(&mut Vec::new()))
            .await
            .context("nobody hung up")?;
        anyhow::Ok(())
    });
    let told = channel.err().context("a channel of nobody")?.to_string();
    assert!(told.contains("no answer"), "{told}");
    hung_up
}

#[tokio::test]
async fn the_loss_of_a_node_moves_its_clients_to_another_within_seconds() -> anyhow::Result<()> {
    let place = place().await?;
    let one = Proxy::in_front_of(&place.amqp_url).await?;
    let other = Proxy::in_front_of(&place.amqp_url).await?;
    let nodes = format!(
        "{},{}",
        one.url(&place.amqp_url)?,
        other.url(&place.amqp_url)?
    );
    let ingest = ingest(&place).set("AMQP_URL", &*nodes).start().await?;
    let _worker = worker(&place).set("AMQP_URL", &*nodes).start().await?;
    put_up(&ingest, CHAIR, 100).await?;
    let client = ingest.client()?;
    sells(&client, "k-0").await?;

    // Whatever each connection chose, one of the two has it.
    one.set(Mode::Refuse).await?;
    sells(&client, "k-1").await?;
    one.set(Mode::Pass).await?;
    other.set(Mode::Refuse).await?;
    sells(&client, "k-2").await?;
    // All are at the first node now, and it vanishes without a word.
    other.set(Mode::Pass).await?;
    one.set(Mode::Stall).await?;
    sells(&client, "k-3").await?;
    Ok(())
}

/// Waits until an order is accepted, and settled.
async fn sells(client: &Client, key: &str) -> anyhow::Result<()> {
    let order_id = wait::until("an order to be accepted", MOVED_WITHIN, async || {
        let answer = client
            .order_with_key("c-1", &[(CHAIR, 1)], key)
            .await
            .ok()?;
        (answer.status == 202).then(|| answer.order_id().ok())?
    })
    .await?;
    assert_eq!(settled(client, order_id).await?["status"], "confirmed");
    Ok(())
}

/// The URL with another port of this machine.
fn at(url: &str, port: u16) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_host(Some("127.0.0.1"))?;
    url.set_port(Some(port)).ok().context("no host")?;
    Ok(url.into())
}

/// An address whose queue of connections is full: further ones get no answer at all.
struct Swallowing {
    port: u16,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Swallowing {
    async fn start() -> anyhow::Result<Self> {
        const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut filling = Vec::new();
        while let Ok(stream) = timeout(ANSWERS_WITHIN, TcpStream::connect(address)).await {
            filling.push(stream?);
        }
        Ok(Self {
            port: address.port(),
            _listener: listener,
            _filling: filling,
        })
    }
}
