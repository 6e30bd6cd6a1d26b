//! Claims about the load generator, against a small server that answers as told.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hotrow_tests::load::{Basket, Choice, Load, Refusal};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

#[tokio::test]
async fn every_order_is_sent_once_and_every_answer_counted() -> anyhow::Result<()> {
    // Every third order is refused.
    let shop = Shop::open(|number| {
        if number % 3 == 2 {
            Reply::SoldOut
        } else {
            Reply::Accept
        }
    })
    .await?;
    let report = Load::of(Basket::one("chair", 1), &shop.addresses)
        .orders(3_000)
        .connections(50)
        .run()
        .await?;

    let seen = shop.seen();
    assert_eq!(
        seen.customers.len(),
        3_000,
        "each order has a customer of its own"
    );
    assert_eq!(seen.requests, 3_000);
    assert_eq!(report.accepted.len(), 2_000);
    assert_eq!(
        report.accepted.into_iter().collect::<BTreeSet<_>>(),
        seen.accepted
    );
    let sold_out = Refusal {
        status: 409,
        code: "sold_out".into(),
    };
    assert_eq!(
        report.refused.into_iter().collect::<Vec<_>>(),
        [(sold_out, 1_000)]
    );
    assert_eq!(report.accept_times.len(), 2_000);
    Ok(())
}

#[tokio::test]
async fn a_broken_connection_costs_one_answer_and_no_more() -> anyhow::Result<()> {
    let shop = Shop::open(|number| {
        if number == 100 {
            Reply::HangUp
        } else {
            Reply::Accept
        }
    })
    .await?;
    let report = Load::of(Basket::one("chair", 1), &shop.addresses)
        .orders(1_000)
        .connections(8)
        .run()
        .await?;
    assert_eq!(report.accepted.len(), 999);
    assert_eq!(report.unanswered.len(), 1);
    assert_eq!(shop.seen().requests, 1_000);
    Ok(())
}

#[tokio::test]
async fn the_same_numbers_are_the_same_requests() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Accept).await?;
    let baskets = ["chair", "table"].map(|sku| Basket::one(sku, 2)).to_vec();
    let load = Load::of(Basket::one("chair", 1), &shop.addresses)
        .baskets(
            baskets,
            Choice::By(Arc::new(|order| usize::from(order >= 20))),
        )
        .keys("again-")
        .customers(10)
        .connections(4);
    load.clone().orders(30).run().await?;
    load.first_order(10).orders(20).run().await?;

    let seen = shop.seen();
    assert_eq!(
        (seen.customers.len(), seen.keys.len(), seen.requests),
        (10, 30, 50)
    );
    assert_eq!(seen.bodies.len(), 20, "ten customers, two baskets");
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_is_told_at_the_start() -> anyhow::Result<()> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let error = Load::of(Basket::one("chair", 1), &[address])
        .start()
        .err()
        .map(|error| format!("{error:#}"));
    assert!(error.is_some_and(|error| error.contains(&format!("connect to {address}: "))));
    Ok(())
}

#[derive(Clone, Copy)]
enum Reply {
    Accept,
    SoldOut,
    HangUp,
}

/// Two listeners that answer each request by its number.
struct Shop {
    addresses: Vec<SocketAddr>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Default)]
struct Seen {
    requests: u64,
    customers: BTreeSet<String>,
    keys: BTreeSet<String>,
    bodies: BTreeSet<String>,
    accepted: BTreeSet<Uuid>,
}

impl Shop {
    async fn open(reply: impl Fn(u64) -> Reply + Copy + Send + 'static) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut addresses = Vec::new();
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                while let Ok((connection, _)) = listener.accept().await {
                    tokio::spawn(serve(connection, Arc::clone(&seen), reply));
                }
            });
        }
        Ok(Self { addresses, seen })
    }

    fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn serve(
    connection: TcpStream,
    seen: Arc<Mutex<Seen>>,
    reply: impl Fn(u64) -> Reply,
) -> anyhow::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut length, mut key) = (0, None);
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse()?,
                Some(("idempotency-key", value)) => key = Some(value.to_owned()),
                Some(_) => {}
                None if line == "\r\n" => break,
                None => assert_eq!(line, "POST /v1/orders HTTP/1.1\r\n"),
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        let answer = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let order: Value = serde_json::from_slice(&body)?;
            let number = seen.requests;
            seen.requests += 1;
            seen.customers
                .extend(order["customer_id"].as_str().map(str::to_owned));
            seen.keys.extend(key);
            seen.bodies.insert(order.to_string());
            match reply(number) {
                Reply::HangUp => return Ok(()),
                Reply::SoldOut => answer("409 Conflict", r#"{"code":"sold_out"}"#),
                Reply::Accept => {
                    let order_id = Uuid::new_v4();
                    seen.accepted.insert(order_id);
                    answer(
                        "202 Accepted",
                        &format!(r#"{{"order_id":"{order_id}","status":"queued"}}"#),
                    )
                }
            }
        };
        connection.write_all(answer.as_bytes()).await?;
    }
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
