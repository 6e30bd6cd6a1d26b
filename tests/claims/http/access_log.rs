//! Claims about the access log: which answers have a line, and what stands in it.

use hotrow_tests::{Process, processes::ADMIN_TOKEN, wait};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CHAIR, SOON, assert_accepted, assert_refused, ingest, one, place, post, put_up, send};

#[tokio::test]
async fn one_request_id_shows_the_whole_way_of_an_order_in_the_log() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("LOG_SAMPLE", "1")
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .set("RUST_LOG", "info,hotrow_ingest=debug")
        .start()
        .await?;
    let headers: [(&str, &[u8]); 4] = [
        ("x-request-id", b"way-of-7"),
        ("x-forwarded-for", b"203.0.113.7"),
        ("idempotency-key", b"a-key-that-stays-out-of-the-log"),
        ("authorization", b"Bearer a-token-that-stays-out"),
    ];
    // A short name such as "c-1" is also a part of one UUID in a hundred.
    let body = one(CHAIR).replace("c-1", "a-customer-that-stays-out");
    let answer = post(&ingest, &headers, body).await?;
    let order_id = assert_accepted(&answer).to_string();

    let accepted = line(&ingest, "way-of-7", "an order is accepted").await?;
    assert_eq!(accepted["level"], "DEBUG");
    assert_eq!(accepted["fields"]["order_id"], order_id);
    let answered = line(&ingest, "way-of-7", "answered").await?;
    let fields = &answered["fields"];
    assert_eq!(answered["level"], "INFO");
    assert_eq!(fields["status"], 202);
    assert_eq!(fields["method"], "POST");
    assert_eq!(fields["route"], "/v1/orders");
    assert_eq!(fields["client"], "203.0.113.7");
    assert_eq!(fields["order_id"], order_id);
    assert!(fields["duration_us"].is_u64(), "{answered}");
    assert!(fields.get("code").is_none(), "{answered}");

    // A poll names its order; what is wrong with a path is no order's id.
    let poll = format!("/v1/orders/{order_id}");
    for (path, request_id) in [(&*poll, "poll-1"), ("/v1/orders/made-up", "poll-2")] {
        let headers = [("x-request-id", request_id.as_bytes())];
        send(&ingest, Method::GET, path, &headers, "").await?;
    }
    let fields = &line(&ingest, "poll-1", "answered").await?["fields"];
    assert_eq!(fields["route"], "/v1/orders/{order_id}");
    assert_eq!(fields["order_id"], order_id);
    let fields = &line(&ingest, "poll-2", "answered").await?["fields"];
    assert_eq!(fields["code"], "not_found");
    assert!(fields.get("order_id").is_none(), "{fields}");
    // Clients can invent methods of any length.
    let invented = Method::from_bytes("INVENTED".repeat(20).as_bytes())?;
    let headers = [("x-request-id", &b"invented"[..])];
    send(&ingest, invented, "/v1/orders", &headers, "").await?;
    let fields = &line(&ingest, "invented", "answered").await?["fields"];
    assert_eq!(
        (&fields["method"], &fields["code"]),
        (&json!("other"), &json!("method_not_allowed"))
    );
    let log = ingest.log_tail();
    for secret in ["INVENTED", "stays-out", CHAIR, "made-up", ADMIN_TOKEN] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    Ok(())
}

#[tokio::test]
async fn failures_are_logged_without_a_sample_and_successes_are_not() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("LOG_SAMPLE", "0")
        .set("QUEUED_ORDERS_MAX", "1")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 7).await?;
    let first = [("x-request-id", &b"the-first"[..])];
    assert_accepted(&post(&ingest, &first, one(CHAIR)).await?);
    let second = [("x-request-id", &b"the-second"[..])];
    let answer = post(&ingest, &second, one(CHAIR)).await?;
    assert_refused(&answer, 503, "overloaded");
    let answered = line(&ingest, "the-second", "answered").await?;
    assert_eq!(answered["level"], "WARN");
    assert_eq!(answered["fields"]["code"], "overloaded");
    assert_eq!(answered["fields"]["status"], 503);
    assert_eq!(answered["fields"]["client"], "127.0.0.1");
    assert!(!ingest.has_logged("the-first"), "{}", ingest.log_tail());
    Ok(())
}

#[tokio::test]
async fn of_the_answers_without_failure_one_in_so_many_has_a_line() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("LOG_SAMPLE", "10").start().await?;
    let client = ingest.client()?;
    // A start may ask a few times whether the process is ready.
    for _ in 0..50 {
        client.get("/v1/inventory").await?.expect(200)?;
    }
    let page = r#""route":"/v1/inventory""#;
    let lines = async || {
        let log = ingest.log_tail();
        let lines = log.lines().filter(|line| line.contains(page)).count();
        (lines >= 5).then_some(lines)
    };
    let lines = wait::until("the lines of the sample", SOON, lines).await?;
    assert_eq!(lines, 5, "{}", ingest.log_tail());
    Ok(())
}

/// Waits for the line about a request that has this message.
async fn line(process: &Process, request_id: &str, message: &str) -> anyhow::Result<Value> {
    let what = format!("the line {message:?} of {request_id}");
    wait::until(&what, SOON, async || {
        let log = process.log_tail();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| {
                let fields = &line["fields"];
                fields["request_id"] == request_id && fields["message"] == message
            })
    })
    .await
}
