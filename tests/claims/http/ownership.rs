//! Claims about whose an order is: a customer sees and changes its own, and of others' it learns nothing.

use std::time::{Duration, Instant};

use hotrow_shared::id::OrderId;
use hotrow_tests::{Client, Mode, Place, Process, Proxy, Settings, client::Answer};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    CHAIR, assert_accepted, assert_refused, changes, envelopes, hold_chairs, ingest,
    issuer::{Issuer, SECRET},
    limits::assert_limited,
    place, put_up, settled, worker,
};

/// Less than any of the waits that the claims ask for.
const AT_ONCE: Duration = Duration::from_secs(15);

/// A shop that checks tokens, and clients of it.
struct Shop {
    place: Place,
    ingest: Process,
    issuer: Issuer,
}

impl Shop {
    async fn open() -> anyhow::Result<Self> {
        Self::open_with(|ingest| ingest).await
    }

    /// The same with other settings of its ingest process.
    async fn open_with(other: impl FnOnce(Settings) -> Settings) -> anyhow::Result<Self> {
        let place = place().await?;
        let settings = other(ingest(&place).set("AUTH_SECRET", SECRET));
        let ingest = settings.start().await?;
        put_up(&ingest, CHAIR, 100).await?;
        Ok(Self {
            place,
            ingest,
            issuer: Issuer::secret(SECRET.as_bytes()),
        })
    }

    fn client(&self, subject: &str, role: &str) -> anyhow::Result<Client> {
        let token = self.issuer.token(subject, role);
        Ok(Client::new(self.ingest.address()?)?.admin(token))
    }

    fn customer(&self, subject: &str) -> anyhow::Result<Client> {
        self.client(subject, "customer")
    }

    async fn database(&self) -> anyhow::Result<PgConnection> {
        self.place.database().await
    }
}

/// A purchase of a chair that says no customer.
fn a_chair() -> Value {
    json!({ "items": [{ "sku": CHAIR, "quantity": 1 }] })
}

async fn buy(client: &Client, key: Option<&str>, body: Value) -> anyhow::Result<Answer> {
    let key = key.map(|key| ("idempotency-key", key));
    client
        .send(Method::POST, "/v1/orders", key.as_slice(), Some(body))
        .await
}

/// What a customer hears who asks for an order in every way that there is.
async fn asked(client: &Client, id: &str) -> anyhow::Result<Vec<(String, Answer)>> {
    let order = format!("/v1/orders/{id}");
    let reads = [
        order.clone(),
        format!("{order}?wait=20"),
        format!("{order}?wait=20&after_revision=7"),
        format!("{order}?after_revision=0"),
        format!("{order}?after_revision=1"),
        format!("/v1/orders?ids={id}"),
        format!("/v1/orders?ids={id},{id}&wait=20"),
        format!("{order}/changes"),
    ];
    let mut answers = Vec::new();
    for path in reads {
        answers.push((path.clone(), client.get(&path).await?));
    }
    let tagged = client.send(Method::GET, &order, &[("if-none-match", "\"1\"")], None);
    answers.push(("if-none-match".to_owned(), tagged.await?));
    for path in ["cancel", "cancel?wait=20"] {
        let path = format!("{order}/{path}");
        let answer = client
            .send(Method::POST, &path, &[], Some(json!({})))
            .await?;
        answers.push((path, answer));
    }
    Ok(answers)
}

/// The same body, but for what differs with each request.
fn without_request_id(answer: &Answer) -> Value {
    let mut body = answer.json().unwrap_or_default();
    body["request_id"] = Value::Null;
    body
}

#[tokio::test]
async fn an_order_of_another_customer_is_to_a_customer_as_if_it_never_was() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let _worker = worker(&shop.place).start().await?;
    hold_chairs(&shop.ingest.client()?, 600).await?;
    let (owner, other) = (shop.customer("auth0|5f-1")?, shop.customer("auth0|5f-2")?);
    let id = assert_accepted(&buy(&owner, None, a_chair()).await?);
    let document = settled(&owner, id).await?;
    assert_eq!(document["customer_id"], "auth0|5f-1");

    let never = Uuid::nil().to_string();
    let before = envelopes(&shop.place).await?;
    let restarted = ingest(&shop.place)
        .set("AUTH_SECRET", SECRET)
        .start()
        .await?;
    let token = shop.issuer.token("auth0|5f-2", "customer");
    let without_memory = Client::new(restarted.address()?)?.admin(token);
    for (client, knows) in [(&other, "from memory"), (&without_memory, "from the table")] {
        let began = Instant::now();
        let foreign = asked(client, &id.to_string()).await?;
        let unknown = asked(client, &never).await?;
        assert!(began.elapsed() < AT_ONCE, "{knows}: {:?}", began.elapsed());
        for ((path, foreign), (_, unknown)) in foreign.iter().zip(&unknown) {
            assert_eq!(foreign.status, 404, "{knows}: {path}");
            assert_refused(foreign, 404, "not_found");
            assert_eq!(
                without_request_id(foreign),
                without_request_id(unknown),
                "{knows}: {path}"
            );
            assert_eq!(foreign.header("etag"), None, "{knows}: {path}");
        }
    }
    assert_eq!(envelopes(&shop.place).await?, before, "nothing was queued");
    assert_eq!(settled(&owner, id).await?, document, "and nothing changed");

    // One that is not its own hides all of them.
    let own = assert_accepted(&buy(&other, None, a_chair()).await?);
    settled(&other, own).await?;
    let mixed = other.statuses(&[own, id]).await?;
    assert_refused(&mixed, 404, "not_found");
    other.statuses(&[own, own]).await?.expect(200)?;
    for role in ["support", "shop", "admin"] {
        let client = shop.client("somebody", role)?;
        assert_eq!(settled(&client, id).await?, document, "{role}");
        client.statuses(&[own, id]).await?.expect(200)?;
        client
            .get(&format!("/v1/orders/{id}/changes"))
            .await?
            .expect(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_order_that_is_queued_shows_nothing_of_its_customer_and_is_hidden_once_it_is_settled()
-> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let (owner, other) = (shop.customer("c-1")?, shop.customer("c-2")?);
    let id = assert_accepted(&buy(&owner, None, a_chair()).await?);
    let queued = other.status(id).await?.expect(200)?.json()?;
    let members = queued.as_object().into_iter().flatten();
    let members: Vec<_> = members.map(|(name, _)| name.as_str()).collect();
    assert_eq!(members.len(), 3, "{queued}");
    for member in ["order_id", "status", "estimated_wait_ms"] {
        assert!(members.contains(&member), "{queued}");
    }
    let cancel = other.ask(id, "cancel", 0, json!({})).await?;
    assert_refused(&cancel, 409, "not_settled");
    let waits = async { other.settled(id, 20).await };
    let works = async { worker(&shop.place).start().await };
    let (answer, worker) = tokio::join!(waits, works);
    let _worker = worker?;
    assert_refused(&answer?, 404, "not_found");
    assert_eq!(settled(&owner, id).await?["customer_id"], "c-1");
    Ok(())
}

#[tokio::test]
async fn a_second_name_of_an_order_has_the_same_owner() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut database = shop.database().await?;
    // Of c-1.
    let first = changes::settle(&mut database, "reserved", None).await?;
    let second = changes::settle(&mut database, "reserved", Some(first)).await?;
    let (owner, other) = (shop.customer("c-1")?, shop.customer("c-2")?);
    let uuid = |id: OrderId| id.uuid();
    for id in [uuid(first), uuid(second)] {
        for (path, answer) in asked(&other, &id.to_string()).await? {
            assert_eq!(answer.status, 404, "{path}");
        }
        let found = owner.status(id).await?.expect(200)?.json()?;
        assert_eq!(found["customer_id"], "c-1");
        owner.ask(id, "cancel", 0, json!({})).await?.expect(202)?;
        owner
            .get(&format!("/v1/orders/{id}/changes"))
            .await?
            .expect(200)?;
    }
    assert_eq!(envelopes(&shop.place).await?, 2, "the owner's own");
    Ok(())
}

#[tokio::test]
async fn a_customer_buys_for_itself_and_everybody_else_says_for_whom() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let _worker = worker(&shop.place).start().await?;
    let customer = shop.customer("c-1")?;
    let named = |name: Value| {
        let mut body = a_chair();
        body["customer_id"] = name;
        body
    };
    for body in [a_chair(), named(json!("c-1")), named(Value::Null)] {
        let id = assert_accepted(&buy(&customer, None, body).await?);
        assert_eq!(settled(&customer, id).await?["customer_id"], "c-1");
    }
    let other = buy(&customer, None, named(json!("c-2"))).await?;
    let body = assert_refused(&other, 403, "forbidden");
    assert!(
        body["detail"]
            .as_str()
            .is_some_and(|it| it.contains("customer_id"))
    );
    for role in ["shop", "admin"] {
        let client = shop.client("the-shop", role)?;
        let id = assert_accepted(&buy(&client, None, named(json!("c-9"))).await?);
        assert_eq!(settled(&client, id).await?["customer_id"], "c-9");
        for missing in [a_chair(), named(Value::Null)] {
            let answer = buy(&client, None, missing).await?;
            let body = assert_refused(&answer, 422, "invalid");
            assert_eq!(body["errors"][0]["pointer"], "/customer_id", "{role}");
        }
        // With everything else that is wrong.
        let answer = buy(&client, None, json!({ "items": [] })).await?;
        let body = assert_refused(&answer, 422, "invalid");
        let pointers = body["errors"].as_array().into_iter().flatten();
        let pointers: Vec<_> = pointers.map(|it| it["pointer"].clone()).collect();
        assert_eq!(pointers, ["/customer_id", "/items"], "{role}");
    }
    let support = buy(&shop.client("s-1", "support")?, None, named(json!("c-1"))).await?;
    assert_refused(&support, 403, "forbidden");
    Ok(())
}

#[tokio::test]
async fn the_key_of_another_customer_gives_nothing_away() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let (owner, other) = (shop.customer("c-1")?, shop.customer("c-2")?);
    let key = Some("my-first-order");
    let id = assert_accepted(&buy(&owner, key, a_chair()).await?);
    assert_eq!(assert_accepted(&buy(&owner, key, a_chair()).await?), id);
    // The same key of another customer is another key, whatever it is used for.
    let two = json!({ "items": [{ "sku": CHAIR, "quantity": 2 }] });
    let theirs = assert_accepted(&buy(&other, key, two.clone()).await?);
    assert_ne!(theirs, id);
    let mismatch = buy(&owner, key, two.clone()).await?;
    assert_refused(&mismatch, 422, "idempotency_mismatch");
    let mut foreign = [a_chair(), two];
    for body in &mut foreign {
        body["customer_id"] = json!("c-1");
        let answer = buy(&other, key, body.clone()).await?;
        assert_refused(&answer, 403, "forbidden");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(&id.to_string()), "{text}");
        assert_eq!(answer.header("location"), None);
    }
    Ok(())
}

#[tokio::test]
async fn the_limit_of_customers_counts_those_who_prove_who_they_are() -> anyhow::Result<()> {
    let limited = |ingest: Settings| ingest.set("RATE_LIMIT_CUSTOMER", "1/h burst 2");
    let shop = Shop::open_with(limited).await?;
    // What somebody else buys for c-1 uses up nothing of its allowance.
    let program = shop.client("the-shop", "shop")?;
    for _ in 0..5 {
        assert_accepted(&program.order("c-1", &[(CHAIR, 1)]).await?);
    }
    let customer = shop.customer("c-1")?;
    for _ in 0..2 {
        assert_accepted(&buy(&customer, None, a_chair()).await?);
    }
    let refused = buy(&customer, None, a_chair()).await?;
    assert_refused(&refused, 429, "rate_limited");
    assert_accepted(&buy(&shop.customer("c-2")?, None, a_chair()).await?);
    assert_accepted(&program.order("c-1", &[(CHAIR, 1)]).await?);
    Ok(())
}

#[tokio::test]
async fn what_customers_cancel_has_a_limit_of_its_own_and_the_shop_has_none() -> anyhow::Result<()>
{
    let limited = |ingest: Settings| ingest.set("RATE_LIMIT_CUSTOMER", "1/h burst 2");
    let shop = Shop::open_with(limited).await?;
    let mut database = shop.database().await?;
    // Of c-1.
    let order = changes::settle(&mut database, "reserved", None)
        .await?
        .uuid();
    let customer = shop.customer("c-1")?;
    // What it buys uses up nothing of what it may cancel, nor the other way round.
    for _ in 0..2 {
        assert_accepted(&buy(&customer, None, a_chair()).await?);
    }
    let before = envelopes(&shop.place).await?;
    customer
        .ask(order, "cancel", 0, json!({}))
        .await?
        .expect(202)?;
    let never = Uuid::nil();
    let path = format!("/v1/orders/{never}/cancel");
    let cancel = async |client: &Client| client.send(Method::POST, &path, &[], None).await;
    assert_refused(&cancel(&customer).await?, 404, "not_found");
    let refused = customer.ask(order, "cancel", 0, json!({})).await?;
    let body = assert_limited(&refused, "changes", 2, 7_200);
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("changes by this customer"), "{detail}");
    // It is not looked up, nor is its body read.
    assert_limited(&cancel(&customer).await?, "changes", 2, 7_200);
    let nonsense = customer.ask(order, "cancel", 0, json!({ "no": 1 })).await?;
    assert_limited(&nonsense, "changes", 2, 7_200);
    assert_eq!(envelopes(&shop.place).await?, before + 1);

    // Others go on, and so does the shop with the orders of this customer.
    let other = shop.customer("c-2")?;
    for _ in 0..2 {
        assert_refused(&cancel(&other).await?, 404, "not_found");
        assert_accepted(&buy(&other, None, a_chair()).await?);
    }
    let before = envelopes(&shop.place).await?;
    for role in ["support", "shop", "admin"] {
        let client = shop.client("c-1", role)?;
        for _ in 0..5 {
            client
                .ask(order, "cancel", 0, json!({}))
                .await?
                .expect(202)?;
        }
    }
    let fixed = shop.ingest.client()?;
    for _ in 0..5 {
        let payment = json!({ "payment_reference": "pi_1" });
        fixed.ask(order, "confirm", 0, payment).await?.expect(202)?;
    }
    assert_eq!(envelopes(&shop.place).await?, before + 20);
    let metrics = shop.ingest.metrics().await?;
    let limited = |limit| metrics.count("hotrow_rate_limited_total", &[("limit", limit)]);
    assert_eq!(["changes", "customer"].map(limited), [3, 0]);
    Ok(())
}

#[tokio::test]
async fn a_customer_who_waits_is_answered_in_time_while_the_database_hangs() -> anyhow::Result<()> {
    /// The wait that is asked for, in seconds.
    const WAIT: u64 = 1;
    /// A second more, and another half for a busy machine. A look of its own before the wait would take longer.
    const ANSWERED: Duration = Duration::from_millis(WAIT * 1_000 + 1_500);
    let place = place().await?;
    let database = Proxy::in_front_of(&place.database_url).await?;
    let ingest = ingest(&place)
        .set("AUTH_SECRET", SECRET)
        .set("DATABASE_URL", database.url(&place.database_url)?)
        .start()
        .await?;
    put_up(&ingest, CHAIR, 100).await?;
    let shop = Shop {
        place,
        ingest,
        issuer: Issuer::secret(SECRET.as_bytes()),
    };
    let customer = shop.customer("c-1")?;
    let id = assert_accepted(&buy(&customer, None, a_chair()).await?);
    database.set(Mode::Stall).await?;
    for path in [
        format!("/v1/orders/{id}?wait={WAIT}"),
        format!("/v1/orders/{id}?wait={WAIT}&after_revision=1"),
        format!("/v1/orders?ids={id},{id}&wait={WAIT}"),
    ] {
        let began = Instant::now();
        let answer = customer.get(&path).await?;
        let took = began.elapsed();
        assert_refused(&answer, 503, "unavailable");
        assert!(took < ANSWERED, "{path}: {took:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_customer_cancels_its_own_order_while_it_is_reserved_and_its_history_says_who_did()
-> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let _worker = worker(&shop.place).start().await?;
    let admin = shop.ingest.client()?;
    hold_chairs(&admin, 600).await?;
    let customer = shop.customer("auth0|5f")?;
    let (given_up, paid) = (
        assert_accepted(&buy(&customer, None, a_chair()).await?),
        assert_accepted(&buy(&customer, None, a_chair()).await?),
    );
    for id in [given_up, paid] {
        assert_eq!(settled(&customer, id).await?["status"], "reserved");
    }
    let cancelled = customer.ask(given_up, "cancel", 20, json!({})).await?;
    let cancelled = cancelled.expect(200)?.json()?;
    assert_eq!(
        (&cancelled["status"], &cancelled["reason"]),
        (&json!("cancelled"), &json!("by_customer"))
    );
    let history = customer
        .get(&format!("/v1/orders/{given_up}/changes"))
        .await?;
    let history = history.expect(200)?.json()?;
    let last = &history["changes"][1];
    assert_eq!(
        (&last["actor"], &last["role"]),
        (&json!("auth0|5f"), &json!("customer")),
        "{history}"
    );

    let program = shop.client("shop-backend", "shop")?;
    let payment = json!({ "payment_reference": "pi_1" });
    program
        .ask(paid, "confirm", 20, payment)
        .await?
        .expect(200)?;
    let late = customer.ask(paid, "cancel", 20, json!({})).await?;
    let problem = assert_refused(&late, 409, "conflict");
    assert_eq!(problem["order"]["status"], "confirmed");
    let support = shop.client("s-1", "support")?;
    let cancelled = support.ask(paid, "cancel", 20, json!({})).await?;
    assert_eq!(cancelled.expect(200)?.json()?["reason"], "by_shop");
    let history = support.get(&format!("/v1/orders/{paid}/changes")).await?;
    let history = history.expect(200)?.json()?;
    let lines = history["changes"].as_array().into_iter().flatten();
    let actors: Vec<_> = lines
        .map(|it| (it["actor"].clone(), it["role"].clone()))
        .collect();
    let by = |name: Option<&str>, role: &str| (json!(name), json!(role));
    assert_eq!(
        actors,
        [
            by(None, "system"),
            by(Some("shop-backend"), "shop"),
            by(Some("s-1"), "support")
        ]
    );
    Ok(())
}
