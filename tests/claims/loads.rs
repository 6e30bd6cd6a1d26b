//! Claims about the load generator, against a small server that answers as told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
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
    assert_eq!(report.accept_times.count(), 2_000);
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

#[tokio::test]
async fn an_open_loop_counts_waiting_from_when_an_order_was_due() -> anyhow::Result<()> {
    let answer_takes = Duration::from_millis(20);
    let shop = Shop::open(move |_| Reply::AcceptAfter(answer_takes)).await?;
    // Twice as many as one connection gets through.
    let length = Duration::from_millis(500);
    let report = Load::of(Basket::one("chair", 1), &shop.addresses[..1])
        .connections(1)
        .lasting(Duration::ZERO, length)
        .per_second(100.0)
        .run()
        .await?;

    // The last one was due before the end, and was answered when all of them were.
    let orders = u32::try_from(report.accepted.len())?;
    let waited = (answer_takes * orders).saturating_sub(length);
    assert!(orders > 30, "{orders}");
    assert!(report.accept_times.ms(1.0) >= waited.as_secs_f64() * 1_000.0);
    assert_eq!(report.accept_times.count(), u64::from(orders));
    Ok(())
}

#[tokio::test]
async fn what_is_answered_in_a_warm_up_is_not_measured() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Accept).await?;
    let part = Duration::from_millis(200);
    let report = Load::of(Basket::one("chair", 1), &shop.addresses)
        .connections(2)
        .lasting(part, part)
        .run()
        .await?;

    let (measured, all) = (report.accept_times.count(), report.accepted.len() as u64);
    assert!(0 < measured && measured < all, "{measured} of {all}");
    assert_eq!(shop.seen().requests, all);
    assert_eq!(report.window.map(|window| window.length()), Some(part));
    let per_second = report.accepted_per_second();
    assert_eq!(
        (per_second * part.as_secs_f64()).round().to_string(),
        measured.to_string()
    );
    Ok(())
}

#[tokio::test]
async fn reads_go_through_their_orders_in_turn() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Accept).await?;
    let orders = [1, 2, 3].map(Uuid::from_u128);
    let report = Load::reads(orders.to_vec(), &shop.addresses)
        .orders(30)
        .connections(4)
        .run()
        .await?;

    // The shop says "queued" to whoever asks first.
    let shown = [("confirmed".to_owned(), 27), ("queued".to_owned(), 3)];
    assert_eq!(report.shown, BTreeMap::from(shown));
    assert_eq!(shop.seen().reads, orders.map(|id| (id, 10)).into());
    assert_eq!(report.show_times.count(), 30);
    Ok(())
}

#[tokio::test]
async fn a_buyer_who_waits_asks_until_the_order_is_settled() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Accept).await?;
    let report = Load::of(Basket::one("chair", 1), &shop.addresses)
        .and_wait(Duration::from_secs(7))
        .orders(40)
        .connections(4)
        .run()
        .await?;

    let seen = shop.seen();
    assert_eq!(report.accepted.len(), 40);
    assert_eq!(report.told, [("confirmed".to_owned(), 40)].into());
    let asked_twice = seen.accepted.iter().map(|id| (*id, 2));
    assert_eq!(seen.reads, asked_twice.collect());
    assert_eq!(seen.preferences, ["wait=7".to_owned()].into());
    Ok(())
}

#[tokio::test]
async fn payments_pay_each_order_once_and_wait_if_they_are_told_to() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Hold).await?;
    let orders: Vec<_> = (1..=30).map(Uuid::from_u128).collect();
    let load = Load::payments(orders.clone(), "a-token", &shop.addresses).connections(4);
    // Long enough to go round again, if it did.
    let (no, time) = (Duration::ZERO, Duration::from_millis(300));
    let report = load.clone().lasting(no, time).run().await?;
    assert_eq!(
        report.accepted.iter().copied().collect::<BTreeSet<_>>(),
        orders.iter().copied().collect()
    );
    assert_eq!(report.accepted.len(), orders.len());

    let report = load.and_wait(Duration::from_secs(7)).run().await?;
    assert_eq!(report.shown, [("confirmed".to_owned(), 30)].into());
    assert_eq!(report.show_times.count(), 30);
    let seen = shop.seen();
    let paid_twice = orders.iter().map(|id| (*id, 2));
    assert_eq!(seen.payments, paid_twice.collect());
    assert_eq!(seen.references.len(), 30);
    assert_eq!(seen.tokens, ["Bearer a-token".to_owned()].into());
    assert_eq!(seen.preferences, ["wait=7".to_owned()].into());
    Ok(())
}

#[tokio::test]
async fn a_buyer_who_pays_is_told_what_the_payment_made_of_the_order() -> anyhow::Result<()> {
    let shop = Shop::open(|_| Reply::Hold).await?;
    let report = Load::of(Basket::one("chair", 1), &shop.addresses)
        .and_wait(Duration::from_secs(7))
        .and_pay("a-token")
        .orders(40)
        .connections(4)
        .run()
        .await?;

    let seen = shop.seen();
    assert_eq!(report.accepted.len(), 40);
    assert_eq!(report.told, [("confirmed".to_owned(), 40)].into());
    assert_eq!(report.tell_times.count(), 40);
    let paid_once = seen.accepted.iter().map(|id| (*id, 1));
    assert_eq!(seen.payments, paid_once.collect());
    Ok(())
}

#[derive(Clone, Copy)]
enum Reply {
    Accept,
    /// An order that reads "reserved" once it was asked for, until it is paid.
    Hold,
    AcceptAfter(Duration),
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
    /// How often each order was asked for.
    reads: BTreeMap<Uuid, u64>,
    /// How often each order was paid.
    payments: BTreeMap<Uuid, u64>,
    references: BTreeSet<String>,
    tokens: BTreeSet<String>,
    preferences: BTreeSet<String>,
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
    while let Some(request) = Request::read(&mut connection).await? {
        let reply = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.requests += 1;
            seen.note(&request);
            reply(seen.requests - 1)
        };
        let answer = match (request.order, reply) {
            (Some(id), _) if request.is_payment => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen.payments.entry(id).or_default() += 1;
                let (status, word) = match request.preference {
                    Some(_) => ("200 OK", "confirmed"),
                    None => ("202 Accepted", "reserved"),
                };
                let document = format!(r#"{{"order_id":"{id}","status":"{word}"}}"#);
                answer(status, &document)
            }
            (Some(id), reply) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let asked = seen.reads.entry(id).or_default();
                *asked += 1;
                let status = match (*asked, reply) {
                    (1, _) => "queued",
                    (_, Reply::Hold) => "reserved",
                    _ => "confirmed",
                };
                answer("200 OK", &format!(r#"{{"status":"{status}"}}"#))
            }
            (None, Reply::HangUp) => return Ok(()),
            (None, Reply::SoldOut) => answer("409 Conflict", r#"{"code":"sold_out"}"#),
            (None, Reply::Accept | Reply::Hold | Reply::AcceptAfter(_)) => {
                if let Reply::AcceptAfter(time) = reply {
                    tokio::time::sleep(time).await;
                }
                let order_id = Uuid::new_v4();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.accepted.insert(order_id);
                answer(
                    "202 Accepted",
                    &format!(r#"{{"order_id":"{order_id}","status":"queued"}}"#),
                )
            }
        };
        connection.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

impl Seen {
    fn note(&mut self, request: &Request) {
        self.keys.extend(request.key.clone());
        self.preferences.extend(request.preference.clone());
        self.tokens.extend(request.token.clone());
        let reference = request.body["payment_reference"].as_str();
        self.references.extend(reference.map(str::to_owned));
        if request.order.is_none() {
            let customer = request.body["customer_id"].as_str();
            self.customers.extend(customer.map(str::to_owned));
            self.bodies.insert(request.body.to_string());
        }
    }
}

#[derive(Default)]
struct Request {
    /// The order that is asked for, or paid; none where one is placed.
    order: Option<Uuid>,
    is_payment: bool,
    key: Option<String>,
    preference: Option<String>,
    token: Option<String>,
    body: Value,
}

impl Request {
    /// The next request, or none at the end of the connection.
    async fn read(connection: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Self>> {
        let (mut request, mut length) = (Self::default(), 0);
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse()?,
                Some(("idempotency-key", value)) => request.key = Some(value.to_owned()),
                Some(("authorization", value)) => request.token = Some(value.to_owned()),
                Some(("prefer", value)) => request.preference = Some(value.to_owned()),
                Some(_) => {}
                None if line == "\r\n" => break,
                None => (request.order, request.is_payment) = order_asked_for(&line)?,
            }
        }
        if length > 0 {
            let mut body = vec![0; length];
            connection.read_exact(&mut body).await?;
            request.body = serde_json::from_slice(&body)?;
        }
        Ok(Some(request))
    }
}

/// The order that a request line names, and whether it is paid.
fn order_asked_for(line: &str) -> anyhow::Result<(Option<Uuid>, bool)> {
    let target = line
        .strip_suffix(" HTTP/1.1\r\n")
        .context("a request line without a version")?;
    if let Some(id) = target.strip_prefix("GET /v1/orders/") {
        return Ok((Some(id.parse()?), false));
    }
    let path = target.strip_prefix("POST /v1/orders").context("a POST")?;
    let paid = path.strip_prefix('/');
    let paid = paid.and_then(|path| path.strip_suffix("/confirm"));
    assert!(path.is_empty() || paid.is_some(), "{line}");
    let id = paid.map(str::parse).transpose()?;
    Ok((id, id.is_some()))
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
