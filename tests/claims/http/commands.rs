//! Claims about what commands may say: payments by references of every length, and bodies and ids that are none.

use hotrow_shared::id::{IdMint, OrderId};
use hotrow_tests::{Client, client::Answer};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CHAIR, Headers, assert_accepted, assert_refused, changes::settle, envelopes, hold_chairs,
    ingest, place, put_up, send, settled, worker,
};

const JSON: (&str, &[u8]) = ("content-type", b"application/json");
const BEARER: (&str, &[u8]) = ("authorization", b"Bearer an-admin-token-for-tests");

/// What a command needs to say at least.
const COMMANDS: [(&str, &str); 3] = [
    ("confirm", r#"{"payment_reference":"pi_1"}"#),
    ("cancel", "{}"),
    ("extend", r#"{"seconds":60}"#),
];

async fn confirm(client: &Client, id: Uuid, reference: &Value) -> anyhow::Result<Answer> {
    let payment = json!({ "payment_reference": reference });
    client.ask(id, "confirm", 20, payment).await
}

/// A reference of so many characters, all visible ones of ASCII among the first 94.
fn reference(characters: usize) -> Value {
    let visible = ('!'..='~').cycle().take(characters);
    Value::from(visible.collect::<String>())
}

#[tokio::test]
async fn a_reference_of_1_to_255_visible_characters_pays_and_is_told_to_the_letter()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 10).await?;
    hold_chairs(&client, 600).await?;
    for characters in [1, 94, 255] {
        let id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
        assert_eq!(settled(&client, id).await?["status"], "reserved");
        for wrong in [
            reference(0),
            reference(256),
            json!("é".repeat(100)),
            json!(" pi_1"),
            json!("pi\u{7f}"),
            json!("pi\u{0}"),
            json!("pi\n1"),
            json!(1),
            json!(["pi_1"]),
            Value::Null,
        ] {
            let refused = assert_refused(&confirm(&client, id, &wrong).await?, 422, "invalid");
            let pointer = &refused["errors"][0]["pointer"];
            assert_eq!(pointer, "/payment_reference", "{refused}");
        }
        let reference = reference(characters);
        let paid = confirm(&client, id, &reference)
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(
            [&paid["status"], &paid["payment_reference"]],
            [&json!("confirmed"), &reference]
        );
        assert_eq!(client.status(id).await?.expect(200)?.json()?, paid);
        // It is another one if it differs in a letter, and did not pay then.
        let other = reference.as_str().unwrap_or_default();
        let other = json!(format!("{}x", &other[..other.len() - 1]));
        assert_refused(&confirm(&client, id, &other).await?, 409, "conflict");
        let listed = client.get("/v1/payments/unmatched?limit=100").await?;
        let listed = listed.expect(200)?.json()?;
        let last = listed["payments"].as_array().and_then(|all| all.last());
        let last = last.map(|line| [&line["order_id"], &line["payment_reference"]]);
        assert_eq!(last, Some([&json!(id), &other]));
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_command_is_refused_and_nothing_is_queued() -> anyhow::Result<()> {
    let place = place().await?;
    let mut database = place.database().await?;
    let ingest = ingest(&place).start().await?;
    let id = settle(&mut database, "reserved", None).await?;
    let commands = COMMANDS.map(|(name, body)| (format!("/v1/orders/{id}/{name}"), body));
    let resolve = "/v1/payments/unmatched/1/resolve".to_owned();
    for (path, right) in commands.into_iter().chain([(resolve, r#"{"note":"n"}"#)]) {
        let post = async |headers: Headers<'_>, path: &str, body: String| {
            let headers = [&[BEARER][..], headers].concat();
            send(&ingest, Method::POST, path, &headers, body).await
        };
        let padded = format!("{right}{}", " ".repeat(16 * 1024));
        let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
        let twice = format!(r#"{{"a":1,"a":2,{}"#, &right[1..]).replace(",}", "}");
        let cases: [(u16, &str, Headers<'_>, String); 13] = [
            (
                400,
                "malformed",
                &[JSON],
                right[..right.len() - 1].to_owned(),
            ),
            (400, "malformed", &[JSON], format!("{right}{right}")),
            (400, "malformed", &[JSON], right.replace('{', "{'")),
            (422, "invalid", &[JSON], "null".to_owned()),
            (422, "invalid", &[JSON], "7".to_owned()),
            (422, "invalid", &[JSON], format!("[{right}]")),
            (422, "invalid", &[JSON], Value::from(right).to_string()),
            (422, "invalid", &[JSON], deep),
            (422, "invalid", &[JSON], twice),
            (413, "too_large", &[JSON], padded),
            (415, "unsupported_media_type", &[], right.to_owned()),
            (
                415,
                "unsupported_media_type",
                &[("content-type", b"text/plain")],
                right.to_owned(),
            ),
            (
                415,
                "unsupported_media_type",
                &[JSON, ("content-encoding", b"gzip")],
                right.to_owned(),
            ),
        ];
        for (status, code, headers, body) in cases {
            let text = body[..body.len().min(60)].to_owned();
            let answer = post(headers, &path, body).await?;
            assert_eq!(answer.status, status, "{path} {text:?}: {answer:?}");
            assert_refused(&answer, status, code);
        }
        for query in [
            "?waits=1",
            "?wait=1&wait=2",
            "?wait=-1",
            "?after_revision=1",
        ] {
            let answer = post(&[JSON], &format!("{path}{query}"), right.to_owned()).await?;
            assert_refused(&answer, 400, "malformed");
        }
    }
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    Ok(())
}

#[tokio::test]
async fn no_command_reaches_an_order_by_a_name_that_it_was_not_given() -> anyhow::Result<()> {
    let place = place().await?;
    let mut database = place.database().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let id = settle(&mut database, "reserved", None).await?;
    let alias = settle(&mut database, "reserved", Some(id)).await?;
    let now_ms = chrono::Utc::now().timestamp_millis().unsigned_abs();
    let foreign = IdMint::new("a secret of somebody else", None).mint(now_ms);
    let damaged = |id: OrderId, at: usize| {
        let text = id.to_string();
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    let made_up = [
        damaged(id, 0),
        damaged(id, 35),
        damaged(alias, 20),
        foreign.to_string(),
        Uuid::nil().to_string(),
        id.to_string().replace('-', ""),
        format!("{id}%20"),
        format!("{id},{alias}"),
    ];
    for made_up in made_up {
        for (name, body) in COMMANDS {
            let path = format!("/v1/orders/{made_up}/{name}?wait=20");
            let body = serde_json::from_str(body)?;
            let answer = client.send(Method::POST, &path, &[], Some(body)).await?;
            assert_refused(&answer, 404, "not_found");
        }
        let history = client.get(&format!("/v1/orders/{made_up}/changes")).await?;
        assert_refused(&history, 404, "not_found");
    }
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    for (name, body) in COMMANDS {
        let body = serde_json::from_str(body)?;
        let known = client.ask(alias.uuid(), name, 0, body).await?;
        assert_eq!(known.expect(202)?.json()?["alias_of"], json!(id));
    }
    assert_eq!(envelopes(&place).await?, 3);
    Ok(())
}
