//! Claims about the proxy that tests put in front of servers.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hotrow_tests::{Mode, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Long for a loopback connection, short for a person.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_passing_proxy_changes_nothing() -> anyhow::Result<()> {
    let proxy = Proxy::in_front_of(&echo().await?).await?;
    let mut connection = TcpStream::connect(proxy.address()).await?;
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut reader, mut writer) = connection.split();
    let write = async {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    let mut received = Vec::new();
    timeout(SOON, async {
        tokio::try_join!(write, reader.read_to_end(&mut received))
    })
    .await??;
    assert!(received == sent, "the echo differs");
    Ok(())
}

#[tokio::test]
async fn a_refusing_proxy_cuts_old_connections_and_refuses_new_ones() -> anyhow::Result<()> {
    let proxy = Proxy::in_front_of(&echo().await?).await?;
    let mut connection = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut connection).await?;

    proxy.set(Mode::Refuse).await?;
    let cut = connection.read_u8().await.map_err(|error| error.kind());
    assert_eq!(cut, Err(ErrorKind::ConnectionReset));
    let refused = TcpStream::connect(proxy.address())
        .await
        .map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));

    proxy.set(Mode::Pass).await?;
    round_trip(&mut TcpStream::connect(proxy.address()).await?).await
}

#[tokio::test]
async fn a_stalling_proxy_holds_what_it_is_given_until_it_passes_again() -> anyhow::Result<()> {
    let proxy = Proxy::in_front_of(&echo().await?).await?;
    let mut old = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut old).await?;

    proxy.set(Mode::Stall).await?;
    let mut new = TcpStream::connect(proxy.address()).await?;
    for connection in [&mut old, &mut new] {
        connection.write_all(b"x").await?;
        let silence = timeout(Duration::from_millis(50), connection.read_u8()).await;
        assert!(silence.is_err(), "a stalling proxy forwarded a byte");
    }

    proxy.set(Mode::Pass).await?;
    for connection in [&mut old, &mut new] {
        assert_eq!(timeout(SOON, connection.read_u8()).await??, b'x');
    }
    Ok(())
}

#[tokio::test]
async fn a_delay_of_half_a_millisecond_each_way_is_a_millisecond_per_round_trip()
-> anyhow::Result<()> {
    let proxy = Proxy::in_front_of(&echo().await?).await?;
    let mut connection = TcpStream::connect(proxy.address()).await?;
    connection.set_nodelay(true)?;
    proxy.set(Mode::Delay(Duration::from_micros(500))).await?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        round_trip(&mut connection).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    // Other tests keep the processors busy, so only the quickest tell what the proxy adds.
    assert!(
        (1_000..1_600).contains(&times[10].as_micros()),
        "{:?}",
        &times[..20]
    );
    Ok(())
}

#[tokio::test]
async fn a_delay_keeps_order_and_throughput() -> anyhow::Result<()> {
    const WORDS: u32 = 8 << 20;
    let proxy = Proxy::in_front_of(&echo().await?).await?;
    proxy.set(Mode::Delay(Duration::from_millis(5))).await?;
    let mut connection = TcpStream::connect(proxy.address()).await?;
    let (mut reader, mut writer) = connection.split();
    let sent: Vec<u8> = (0..WORDS).flat_map(u32::to_le_bytes).collect();
    let mut received = vec![0; sent.len()];
    let started = Instant::now();
    tokio::try_join!(writer.write_all(&sent), async {
        reader.read_exact(&mut received).await.map(drop)
    })?;
    assert!(received == sent, "the echo differs");
    // One chunk of 16 KiB at a time would take 20 s.
    assert!(
        started.elapsed() < SOON,
        "32 MiB took {:?}",
        started.elapsed()
    );
    Ok(())
}

/// A server that sends back what it gets.
async fn echo() -> anyhow::Result<String> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = connection.set_nodelay(true);
                let (mut reader, mut writer) = connection.split();
                let _ = copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    Ok(url)
}

async fn round_trip(connection: &mut TcpStream) -> anyhow::Result<()> {
    connection.write_all(b"x").await?;
    assert_eq!(timeout(SOON, connection.read_u8()).await??, b'x');
    Ok(())
}
