//! Claims about changes of settled orders at the door: who may ask, for what, and what they hear, whatever
//! becomes of the news. No worker runs here: settled orders and their changes are written as one writes them.

use std::time::{Duration, Instant};

use hotrow_shared::id::{IdMint, OrderId};
use hotrow_tests::{Client, Place, client::Answer, processes::ORDER_ID_SECRET};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{CHAIR, assert_accepted, assert_refused, envelopes, ingest, place, send};

/// A place with tables, and a hand on them.
async fn shop() -> anyhow::Result<(Place, PgConnection)> {
    let place = place().await?;
    let database = place.database().await?;
    Ok((place, database))
}

fn new_id() -> OrderId {
    let now_ms = chrono::Utc::now().timestamp_millis().unsigned_abs();
    IdMint::new(ORDER_ID_SECRET, None).mint(now_ms)
}

/// Writes an order of one chair as a worker does.
pub(crate) async fn settle(
    database: &mut PgConnection,
    status: &str,
    alias_of: Option<OrderId>,
) -> anyhow::Result<OrderId> {
    let id = new_id();
    let order = "insert into orders (order_id, status, reason, customer_id, items, total_minor, currency,
                                     accepted_at, settled_at, alias_of, expires_at)
                 values ($1, $2, case when $2 = 'rejected' then 'sold_out' end, 'c-1', $3::text::json,
                         case when $2 <> 'rejected' then 4990 end, case when $2 <> 'rejected' then 'EUR' end,
                         now(), now(), $4,
                         case when $2 = 'reserved' then now() + interval '10 minutes' end)";
    sqlx::query(order)
        .bind(id.uuid())
        .bind(status)
        .bind(r#"[{"sku":"chair","quantity":1,"unit_price_minor":4990}]"#)
        .bind(alias_of.map(OrderId::uuid))
        .execute(database)
        .await?;
    Ok(id)
}

/// Writes what became of an order as a worker does.
pub(crate) async fn change(
    database: &mut PgConnection,
    id: OrderId,
    revision: i32,
    status: &str,
    reference: Option<&str>,
) -> anyhow::Result<()> {
    let change = "insert into order_changes (order_id, revision, status, reason, payment_reference, restocked,
                                             actor, role, request_id, at)
                  values ($1, $2, $3, case when $3 = 'cancelled' then 'by_shop' end, $4,
                          case when $3 = 'cancelled' then true end, 'admin-token', 'admin', 'r-1', now())";
    sqlx::query(change)
        .bind(id.uuid())
        .bind(revision)
        .bind(status)
        .bind(reference)
        .execute(database)
        .await?;
    Ok(())
}

async fn ask(client: &Client, path: &str, body: Value) -> anyhow::Result<Answer> {
    client.send(Method::POST, path, &[], Some(body)).await
}

fn payment(reference: &str) -> Value {
    json!({ "payment_reference": reference })
}

/// The routes of one order that need an administrator, with bodies that fit.
fn commands(id: &str) -> [(Method, String, &'static str); 4] {
    let path = |name| format!("/v1/orders/{id}/{name}");
    [
        (
            Method::POST,
            path("confirm"),
            r#"{"payment_reference":"pi_1"}"#,
        ),
        (Method::POST, path("cancel"), "{}"),
        (Method::POST, path("extend"), r#"{"seconds":60}"#),
        (Method::GET, path("changes"), ""),
    ]
}

const JSON: (&str, &[u8]) = ("content-type", b"application/json");

#[tokio::test]
async fn only_an_administrator_changes_orders_and_sees_unmatched_payments() -> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let id = settle(&mut database, "reserved", None).await?.to_string();
    let open = ingest(&place).start().await?;
    let closed = ingest(&place).unset("ADMIN_TOKEN").start().await?;
    let unmatched = "/v1/payments/unmatched";
    let routes = commands(&id).into_iter().chain([
        (Method::GET, unmatched.to_owned(), ""),
        (
            Method::POST,
            format!("{unmatched}/1/resolve"),
            r#"{"note":"x"}"#,
        ),
    ]);
    for (method, path, body) in routes {
        let wrong = ("authorization", &b"Bearer wrong"[..]);
        for process in [&open, &closed] {
            for headers in [&[JSON][..], &[JSON, wrong]] {
                let answer = send(process, method.clone(), &path, headers, body).await?;
                assert_refused(&answer, 401, "unauthorized");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
            }
        }
    }
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    Ok(())
}

#[tokio::test]
async fn an_order_that_never_was_is_404_and_one_that_is_queued_409() -> anyhow::Result<()> {
    let (place, _database) = shop().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let queued = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?).to_string();
    for (id, status, code) in [
        ("made-up", 404, "not_found"),
        ("018f0000-0000-7000-8000-000000000000", 404, "not_found"),
        (&queued, 409, "not_settled"),
    ] {
        for (method, path, body) in commands(id) {
            let body = (!body.is_empty()).then(|| serde_json::from_str(body));
            let answer = client.send(method, &path, &[], body.transpose()?).await?;
            assert_refused(&answer, status, code);
        }
    }
    assert_eq!(envelopes(&place).await?, 1, "the order alone");
    Ok(())
}

#[tokio::test]
async fn a_command_is_refused_for_its_shape_with_all_faults_at_once() -> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let id = settle(&mut database, "reserved", None).await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let long = "x".repeat(256);
    let wrong: [(&str, Value, &[&str]); 7] = [
        ("confirm", json!({}), &["/payment_reference"]),
        ("confirm", payment(""), &["/payment_reference"]),
        ("confirm", payment(&long), &["/payment_reference"]),
        (
            "confirm",
            json!({"payment_reference": "a b", "amount_minor": -1, "currency": "eur", "more": 1}),
            &["/more", "/payment_reference", "/amount_minor", "/currency"],
        ),
        (
            "cancel",
            json!({"reason": "no good", "restock": 1}),
            &["/reason", "/restock"],
        ),
        ("extend", json!({"seconds": 86_401}), &["/seconds"]),
        ("extend", json!({}), &["/seconds"]),
    ];
    for (command, body, pointers) in wrong {
        let answer = ask(&client, &format!("/v1/orders/{id}/{command}"), body).await?;
        let refused = assert_refused(&answer, 422, "invalid");
        let errors = refused["errors"].as_array().into_iter().flatten();
        let found: Vec<_> = errors
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        assert_eq!(found, pointers, "{refused}");
    }
    let path = format!("/v1/orders/{id}/cancel?wait=soon");
    assert_refused(&ask(&client, &path, json!({})).await?, 400, "malformed");
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    Ok(())
}

#[tokio::test]
async fn without_a_wait_a_command_is_queued_and_answered_with_the_order_as_it_is()
-> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let reserved = settle(&mut database, "reserved", None).await?;
    let alias = settle(&mut database, "reserved", Some(reserved)).await?;
    let rejected = settle(&mut database, "rejected", None).await?;
    // Room for no purchase is room for changes.
    let ingest = ingest(&place).set("QUEUED_ORDERS_MAX", "1").start().await?;
    let client = ingest.client()?;
    assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let full = client.order("c-1", &[(CHAIR, 1)]).await?;
    assert_refused(&full, 503, "overloaded");
    let longest = "x".repeat(255);
    for (id, command, body) in [
        (reserved, "confirm", payment(&longest)),
        (alias, "confirm", payment("pi_1")),
        // It must become an unmatched payment.
        (rejected, "confirm", payment("pi_2")),
        (
            reserved,
            "cancel",
            json!({"reason": "fraud", "restock": false}),
        ),
        (reserved, "extend", json!({"seconds": 1})),
    ] {
        let answer = ask(&client, &format!("/v1/orders/{id}/{command}"), body).await?;
        let document = client.status(id.uuid()).await?.expect(200)?;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        assert_eq!(answer.body, document.body);
        assert_eq!(answer.header("etag"), Some("\"1\""));
        assert!(answer.header("retry-after").is_some());
        let status_url = format!("/v1/orders/{id}");
        assert_eq!(answer.header("location"), Some(&*status_url));
    }
    // A cancellation needs no body at all.
    let bearer: (&str, &[u8]) = ("authorization", b"Bearer an-admin-token-for-tests");
    let path = format!("/v1/orders/{reserved}/cancel");
    let bare = send(&ingest, Method::POST, &path, &[bearer], "").await?;
    assert_eq!(bare.status, 202, "{:?}", bare.body);
    assert_eq!(envelopes(&place).await?, 7);

    let shown = client.status(alias.uuid()).await?.json()?;
    assert_eq!(shown["order_id"], json!(alias));
    assert_eq!(shown["alias_of"], json!(reserved));
    assert!(shown["expires_at"].is_string(), "{shown}");
    let shown = client.status(rejected.uuid()).await?.json()?;
    assert!(shown["expires_at"].is_null(), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_caller_that_waits_hears_what_became_of_its_command_though_all_news_is_lost()
-> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let waiting = |id: OrderId, command: &str, body: Value| {
        let (client, path) = (client.clone(), format!("/v1/orders/{id}/{command}?wait=20"));
        tokio::spawn(async move { ask(&client, &path, body).await })
    };
    let paid = settle(&mut database, "reserved", None).await?;
    let unpaid = settle(&mut database, "rejected", None).await?;
    let given_up = settle(&mut database, "reserved", None).await?;
    let asked = Instant::now();
    let calls = [
        waiting(paid, "confirm", payment("pi_1")),
        waiting(unpaid, "confirm", payment("pi_2")),
        waiting(given_up, "cancel", json!({})),
    ];
    change(&mut database, paid, 2, "confirmed", Some("pi_1")).await?;
    change(&mut database, given_up, 2, "cancelled", None).await?;
    unmatched(&mut database, unpaid, "pi_2").await?;
    let [paid, unpaid, given_up] = calls;
    let paid = paid.await??.expect(200)?;
    assert_eq!(paid.header("etag"), Some("\"2\""));
    assert_eq!(paid.json()?["status"], "confirmed");
    assert_eq!(paid.json()?["payment_reference"], "pi_1");
    let conflict = assert_refused(&unpaid.await??, 409, "conflict");
    assert_eq!(conflict["unmatched"], true);
    assert_eq!(conflict["order"]["status"], "rejected");
    let given_up = given_up.await??.expect(200)?.json()?;
    assert_eq!(
        (&given_up["status"], &given_up["restocked"]),
        (&json!("cancelled"), &json!(true))
    );
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "{:?}",
        asked.elapsed()
    );

    // Nobody settles this one.
    let left = settle(&mut database, "reserved", None).await?;
    let path = format!("/v1/orders/{left}/extend");
    let prefer = [("prefer", "wait=1")];
    let body = Some(json!({"seconds": 3_600}));
    let answer = client.send(Method::POST, &path, &prefer, body).await?;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    Ok(())
}

#[tokio::test]
async fn a_poll_behind_a_revision_hears_of_the_next_and_else_304() -> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let id = settle(&mut database, "reserved", None).await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let path = format!("/v1/orders/{id}");
    let shown = client.get(&path).await?.expect(200)?;
    assert_eq!(shown.header("etag"), Some("\"1\""));
    client
        .get(&format!("{path}?after_revision=0"))
        .await?
        .expect(200)?;
    for tag in ["\"1\"", "W/\"1\", \"x\""] {
        let known = [("if-none-match", tag)];
        let answer = client.send(Method::GET, &path, &known, None).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.header("etag")),
            (304, Some("\"1\""))
        );
        assert!(answer.body.is_empty());
    }
    let asked = Instant::now();
    let over = client
        .get(&format!("{path}?after_revision=1&wait=1"))
        .await?;
    assert_eq!(over.status, 304);
    assert!(
        asked.elapsed() >= Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    // A plain wait is for settling, and it is settled.
    let asked = Instant::now();
    client.settled(id.uuid(), 20).await?.expect(200)?;
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );

    let held = {
        let (client, path) = (client.clone(), format!("{path}?after_revision=1&wait=30"));
        tokio::spawn(async move { client.get(&path).await })
    };
    change(&mut database, id, 2, "confirmed", Some("pi_1")).await?;
    let changed = held.await??.expect(200)?;
    assert_eq!(changed.header("etag"), Some("\"2\""));
    assert_eq!(changed.json()?["status"], "confirmed");
    for wrong in ["", "-1", "1.0", "one", "99999999999"] {
        let answer = client
            .get(&format!("{path}?after_revision={wrong}"))
            .await?;
        assert_refused(&answer, 400, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn the_history_of_an_order_begins_with_its_settling_and_is_paged() -> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let id = settle(&mut database, "reserved", None).await?;
    let alias = settle(&mut database, "reserved", Some(id)).await?;
    change(&mut database, id, 2, "confirmed", Some("pi_1")).await?;
    change(&mut database, id, 3, "cancelled", Some("pi_1")).await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    for id in [id, alias] {
        let path = format!("/v1/orders/{id}/changes");
        let history = client.get(&path).await?.expect(200)?.json()?;
        let rows = history["changes"].as_array().cloned().unwrap_or_default();
        let expected = [
            (
                1,
                "reserved",
                Value::Null,
                Value::Null,
                "system",
                Value::Null,
            ),
            (
                2,
                "confirmed",
                Value::Null,
                json!("admin-token"),
                "admin",
                json!("r-1"),
            ),
            (
                3,
                "cancelled",
                json!("by_shop"),
                json!("admin-token"),
                "admin",
                json!("r-1"),
            ),
        ];
        let expected = expected.into_iter().zip(&rows).map(
            |((revision, status, reason, actor, role, request_id), row)| {
                json!({
                    "revision": revision, "status": status, "reason": reason, "at": row["at"],
                    "actor": actor, "role": role, "request_id": request_id,
                })
            },
        );
        assert_eq!(json!(expected.collect::<Vec<_>>()), json!(rows));
        assert_eq!((rows.len(), &history["next_after"]), (3, &Value::Null));
        let first = client
            .get(&format!("{path}?limit=2"))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(first["next_after"], 2);
        let rest = client
            .get(&format!("{path}?after=2&limit=2"))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(
            (&rest["changes"][0], &rest["next_after"]),
            (&rows[2], &Value::Null)
        );
    }
    let path = format!("/v1/orders/{id}/changes?limit=0");
    assert_refused(&client.get(&path).await?, 422, "invalid");
    Ok(())
}

#[tokio::test]
async fn an_unmatched_payment_is_listed_until_it_is_resolved_and_resolved_once()
-> anyhow::Result<()> {
    let (place, mut database) = shop().await?;
    let id = settle(&mut database, "rejected", None).await?;
    for reference in ["pi_1", "pi_2"] {
        unmatched(&mut database, id, reference).await?;
    }
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let listed = async |query: &str| {
        let list = client
            .get(&format!("/v1/payments/unmatched{query}"))
            .await?;
        list.expect(200)?.json()
    };
    let both: Value = listed("").await?;
    let first = &both["payments"][0];
    let expected = json!({
        "id": first["id"], "order_id": id.to_string(), "payment_reference": "pi_1", "amount_minor": 4_990,
        "currency": "EUR", "why": "rejected", "at": first["at"],
    });
    assert_eq!(*first, expected);
    assert!(
        both["next_after"].is_null() && first["at"].is_string(),
        "{both}"
    );
    let page: Value = listed("?limit=1").await?;
    assert_eq!(page["next_after"], first["id"]);

    let path = format!("/v1/payments/unmatched/{}/resolve", first["id"]);
    let refused = ask(&client, &path, json!({"note": ""})).await?;
    assert_refused(&refused, 422, "invalid");
    let resolved = ask(&client, &path, json!({"note": "refund re_1"})).await?;
    let resolved = resolved.expect(200)?.json()?;
    assert_eq!(
        (&resolved["id"], &resolved["note"]),
        (&first["id"], &json!("refund re_1"))
    );
    assert_eq!(resolved["resolved_by"], "admin-token");
    assert!(resolved["resolved_at"].is_string(), "{resolved}");
    let again = ask(&client, &path, json!({"note": "another"})).await?;
    assert_eq!(again.expect(200)?.json()?, resolved);
    let left: Value = listed("").await?;
    assert_eq!(left["payments"], json!([both["payments"][1]]));
    for unknown in ["999999", "x"] {
        let path = format!("/v1/payments/unmatched/{unknown}/resolve");
        let answer = ask(&client, &path, json!({"note": "x"})).await?;
        assert_refused(&answer, 404, "not_found");
    }
    Ok(())
}

/// Writes a payment that did not pay its order as a worker does.
async fn unmatched(
    database: &mut PgConnection,
    id: OrderId,
    reference: &str,
) -> anyhow::Result<()> {
    let payment =
        "insert into unmatched_payments (order_id, payment_reference, amount_minor, currency, why)
                   values ($1, $2, 4990, 'EUR', 'rejected')";
    sqlx::query(payment)
        .bind(id.to_string())
        .bind(reference)
        .execute(database)
        .await?;
    Ok(())
}
