//! Claims about refusals: what is wrong is said in the contract's words and its exact shape, and
//! nothing of it is queued.

use std::collections::BTreeSet;

use hotrow_tests::{client, processes::ADMIN_TOKEN, wait};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{
    CHAIR, Headers, SOON, assert_accepted, assert_refused, envelopes, ingest, one, place, post,
    put_up, send, worker,
};

/// The contract's largest body.
const BODY_MAX: usize = 16 * 1024;

#[tokio::test]
async fn every_refusal_has_the_shape_of_the_contract() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, "gone", 0).await?;
    let (chair, gone) = (one(CHAIR), one("gone"));
    let long_key = "k".repeat(256);
    let refusals: [(Headers<'_>, &str, u16, &str); 8] = [
        (&[], "{", 400, "malformed"),
        (&[("idempotency-key", b"")], &chair, 400, "malformed"),
        (
            &[("idempotency-key", b"two words")],
            &chair,
            400,
            "malformed",
        ),
        (&[("idempotency-key", b"\xe9")], &chair, 400, "malformed"),
        (&[("idempotency-key", b"\"open")], &chair, 400, "malformed"),
        (
            &[("idempotency-key", long_key.as_bytes())],
            &chair,
            400,
            "malformed",
        ),
        (
            &[("idempotency-key", b"a"), ("idempotency-key", b"b")],
            &chair,
            400,
            "malformed",
        ),
        (&[], &gone, 409, "sold_out"),
    ];
    for (headers, body, status, code) in refusals {
        let answer = post(&ingest, headers, body.to_owned()).await?;
        assert_refused(&answer, status, code);
    }

    for content_type in [
        "",
        "text/plain",
        "application/jsonp",
        "application/problem+json",
    ] {
        let headers = [("content-type", content_type.as_bytes())];
        let answer = send(&ingest, Method::POST, "/v1/orders", &headers, chair.clone()).await?;
        assert_refused(&answer, 415, "unsupported_media_type");
    }
    let answer = send(&ingest, Method::POST, "/v1/orders", &[], chair.clone()).await?;
    assert_refused(&answer, 415, "unsupported_media_type");

    let paths = [
        (Method::GET, "/v1/orders/made-up", 404, "not_found"),
        (Method::GET, "/v1/inventory/nothing", 404, "not_found"),
        (Method::GET, "/v2/orders", 404, "not_found"),
        (Method::GET, "/metrics", 404, "not_found"),
        (Method::GET, "/v1/orders", 422, "invalid"),
        (Method::GET, "/v1/inventory/a%20b", 422, "invalid"),
        (Method::GET, "/v1/orders/%ff", 400, "malformed"),
        (Method::GET, "/v1/inventory/%ff", 400, "malformed"),
        (Method::DELETE, "/v1/orders", 405, "method_not_allowed"),
        (Method::POST, "/v1/orders/1", 405, "method_not_allowed"),
        (Method::POST, "/v1/inventory", 405, "method_not_allowed"),
        (Method::POST, "/livez", 405, "method_not_allowed"),
    ];
    for (method, path, status, code) in paths {
        let answer = send(&ingest, method, path, &[], "").await?;
        assert_refused(&answer, status, code);
        // RFC 9110, section 15.5.6.
        assert_eq!(answer.header("allow").is_some(), status == 405, "{path}");
    }

    assert_eq!(
        ingest
            .metrics()
            .await?
            .count("hotrow_orders_accepted_total", &[]),
        0
    );
    assert_eq!(envelopes(&place).await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_invalid_order_is_told_which_field_is_wrong() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let order = |items| json!({ "customer_id": "c-1", "items": items });
    let item = |sku: &str, quantity: i64| json!({ "sku": sku, "quantity": quantity });
    let many: Vec<_> = (0..21).map(|number| item(&number.to_string(), 1)).collect();
    let long = "x".repeat(65);
    let wrong = [
        (json!({ "items": [item("a", 1)] }), "customer_id"),
        (json!({ "customer_id": "c-1" }), "items"),
        (
            json!({ "customer_id": "", "items": [item("a", 1)] }),
            "customer_id",
        ),
        (
            json!({ "customer_id": "x".repeat(129), "items": [item("a", 1)] }),
            "customer_id",
        ),
        (
            json!({ "customer_id": "a\\b", "items": [item("a", 1)] }),
            "customer_id",
        ),
        (
            json!({ "customer_id": 42, "items": [item("a", 1)] }),
            "customer_id",
        ),
        (
            json!({ "customer_id": null, "items": [item("a", 1)] }),
            "customer_id",
        ),
        (
            json!({ "customer_id": "c-1", "items": [item("a", 1)], "price": 1 }),
            "price",
        ),
        (order(json!([])), "items"),
        (order(json!(many)), "items"),
        (order(json!({})), "items"),
        (order(json!("chair")), "items"),
        (order(json!([item("a", 1), item("a", 2)])), "items"),
        (order(json!([item("a", 1), 7])), "items[1]"),
        (order(json!([item("", 1)])), "items[0].sku"),
        (order(json!([item(&long, 1)])), "items[0].sku"),
        (order(json!([item("stühle", 1)])), "items[0].sku"),
        (order(json!([item("a", 0)])), "items[0].quantity"),
        (order(json!([item("a", -1)])), "items[0].quantity"),
        (
            order(json!([item("a", 1), item("b", 1_001)])),
            "items[1].quantity",
        ),
        (order(json!([item("a", 1 << 40)])), "items[0].quantity"),
        (
            order(json!([{ "sku": "a", "quantity": 1.5 }])),
            "items[0].quantity",
        ),
        (
            order(json!([{ "sku": "a", "quantity": "1" }])),
            "items[0].quantity",
        ),
        (
            order(json!([{ "sku": "a", "quantity": true }])),
            "items[0].quantity",
        ),
        (order(json!([{ "sku": "a" }])), "quantity"),
        (
            order(json!([{ "sku": "a", "quantity": 1, "note": "" }])),
            "note",
        ),
    ];
    for (body, field) in wrong {
        let answer = post(&ingest, &[], body.to_string()).await?;
        let refused = assert_refused(&answer, 422, "invalid");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains(field),
            "{body}: {detail:?} should name {field}"
        );
    }
    assert_eq!(envelopes(&place).await?, 0);

    let name = "Az09._:@-".repeat(7) + "x";
    let customer = "auth0|Az09._:@+=/~-".repeat(6) + "0123456789abcd";
    let most: Vec<_> = (0..20)
        .map(|number| item(&number.to_string(), 1_000))
        .collect();
    for body in [
        json!({ "customer_id": customer, "items": [item(&name, 1)] }),
        order(json!(most)),
    ] {
        assert_accepted(&post(&ingest, &[], body.to_string()).await?);
    }
    Ok(())
}

#[tokio::test]
async fn all_faults_of_an_order_are_listed_at_once() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let body = json!({
        "customer_id": 7,
        "a/b": "",
        "items": [{ "sku": "a b", "quantity": 0 }, 4, { "sku": "c", "quantity": "2", "x": 1 }],
    });
    let answer = post(&ingest, &[], body.to_string()).await?;
    let refused = assert_refused(&answer, 422, "invalid");
    let errors = refused["errors"].as_array().cloned().unwrap_or_default();
    let pointers: BTreeSet<_> = errors
        .iter()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    let expected = [
        "/customer_id",
        "/a~1b",
        "/items/0/sku",
        "/items/0/quantity",
        "/items/1",
        "/items/2/quantity",
        "/items/2/x",
    ];
    assert_eq!(pointers, BTreeSet::from(expected), "{refused}");
    assert_eq!(errors.len(), expected.len(), "{refused}");

    // A body has room for thousands of faults, and an answer has not.
    let many: Vec<_> = (0..1_000).map(|n| format!(r#""{n}":0"#)).collect();
    let answer = post(&ingest, &[], format!("{{{}}}", many.join(","))).await?;
    let refused = assert_refused(&answer, 422, "invalid");
    assert_eq!(refused["errors"].as_array().map(Vec::len), Some(100));
    Ok(())
}

#[tokio::test]
async fn a_query_parameter_that_is_unknown_or_repeated_is_refused_and_named() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 7).await?;
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers: [(&str, &[u8]); 2] = [
        ("content-type", b"application/json"),
        ("authorization", authorization.as_bytes()),
    ];
    let product = r#"{"title":"Chair","unit_price_minor":1,"currency":"EUR","available":1}"#;
    let (order, restock) = (one(CHAIR), r#"{"quantity":1}"#);
    let refused = [
        (Method::POST, "/v1/orders?wait=1", &*order, "\"wait\""),
        (Method::GET, "/v1/inventory?limt=5", "", "\"limt\""),
        (
            Method::GET,
            "/v1/inventory?limt=5",
            "",
            "\"limit\", \"after\"",
        ),
        (
            Method::GET,
            "/v1/inventory?limit=5&limit=5",
            "",
            "\"limit\" is given twice",
        ),
        (Method::GET, "/v1/inventory?after=%ff", "", "\"after\""),
        (Method::GET, "/v1/inventory/chair?x", "", "\"x\""),
        (Method::PUT, "/v1/inventory/chair?x=1", product, "\"x\""),
        (
            Method::POST,
            "/v1/inventory/chair/restock?x=1",
            restock,
            "takes none",
        ),
    ];
    for (method, path, body, named) in refused {
        let answer = send(&ingest, method, path, &headers, body.to_owned()).await?;
        let detail = assert_refused(&answer, 400, "malformed")["detail"].clone();
        let detail = detail.as_str().unwrap_or_default();
        assert!(detail.contains(named), "{path}: {detail}");
    }
    // Without parameters a question mark asks for nothing.
    let answer = send(&ingest, Method::POST, "/v1/orders?", &headers, order).await?;
    assert_accepted(&answer);
    assert_eq!(envelopes(&place).await?, 1);
    let shown = ingest.client()?.inventory(CHAIR).await?.json()?;
    assert_eq!(shown["available"], 7, "nothing has changed");
    Ok(())
}

#[tokio::test]
async fn a_405_names_the_methods_that_the_path_takes() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let paths = [
        (Method::DELETE, "/v1/orders", &["GET", "HEAD", "POST"][..]),
        (Method::PUT, "/v1/orders/1", &["GET", "HEAD"]),
        (Method::POST, "/v1/inventory", &["GET", "HEAD"]),
        (
            Method::DELETE,
            "/v1/inventory/chair",
            &["GET", "HEAD", "PATCH", "PUT"],
        ),
        (Method::GET, "/v1/inventory/chair/restock", &["POST"]),
    ];
    for (method, path, taken) in paths {
        let answer = send(&ingest, method, path, &[], "").await?;
        let refused = assert_refused(&answer, 405, "method_not_allowed");
        let allow = answer.header("allow").unwrap_or_default();
        let allowed: BTreeSet<_> = allow.split(',').map(str::trim).collect();
        assert_eq!(allowed, taken.iter().copied().collect(), "{path}");
        for method in taken {
            let detail = refused["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(method), "{path}: {detail}");
        }
    }
    // What is no path at all is refused in the same shape.
    for target in [
        "OPTIONS *",
        "CONNECT shop.example:443",
        "GET http://shop.example/",
    ] {
        let request = format!("{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = ingest.client()?.raw(request.as_bytes()).await?;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.contains("application/problem+json"),
            "{target}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_16_kib_is_read_and_one_byte_more_is_not() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let padded = |length: usize| {
        let order = one(CHAIR);
        order.clone() + &" ".repeat(length - order.len())
    };

    assert_accepted(&post(&ingest, &[], padded(BODY_MAX)).await?);
    // Of the second the client is still sending when the answer is clear, and has to hear it.
    for length in [BODY_MAX + 1, 1 << 20] {
        assert_refused(&post(&ingest, &[], padded(length)).await?, 413, "too_large");
    }
    // Without a length in its head.
    let head = "POST /v1/orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let body = padded(BODY_MAX + 1);
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answer = ingest.client()?.raw(chunked.as_bytes()).await?;
    assert!(
        answer.starts_with(b"HTTP/1.1 413 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );

    assert_eq!(envelopes(&place).await?, 1);
    Ok(())
}

#[tokio::test]
async fn above_the_backlog_limit_orders_are_refused_until_a_worker_has_drained_it()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place).set("QUEUED_ORDERS_MAX", "3");
    let ingest = settings.start().await?;
    put_up(&ingest, CHAIR, 100).await?;
    for _ in 0..3 {
        assert_accepted(&post(&ingest, &[], one(CHAIR)).await?);
    }
    assert_refused(&post(&ingest, &[], one(CHAIR)).await?, 503, "overloaded");
    // One that has published nothing knows it from the broker, and for all queues.
    let other = settings.start().await?;
    for sku in [CHAIR, "table", "lamp"] {
        assert_refused(&post(&other, &[], one(sku)).await?, 503, "overloaded");
    }
    assert_eq!(envelopes(&place).await?, 3);

    let client = other.client()?;
    let _worker = worker(&place).start().await?;
    wait::until("the backlog to be drained", SOON, async || {
        let answer = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await
}

#[tokio::test]
async fn an_admin_route_wants_the_token() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place);
    let open = ingest.start().await?;
    let closed = ingest.clone().unset("ADMIN_TOKEN").start().await?;
    let product = r#"{"title":"Chair","unit_price_minor":1,"currency":"EUR","available":1}"#;
    let routes = [
        (Method::PUT, "/v1/inventory/chair", product),
        (
            Method::PATCH,
            "/v1/inventory/chair",
            r#"{"unit_price_minor":1}"#,
        ),
        (
            Method::POST,
            "/v1/inventory/chair/restock",
            r#"{"quantity":1}"#,
        ),
    ];
    for (method, path, body) in routes {
        let ask = async |process, authorization: Headers<'_>| {
            let headers = [&[("content-type", &b"application/json"[..])], authorization].concat();
            send(process, method.clone(), path, &headers, body).await
        };
        let wrong: [&[u8]; 6] = [
            b"Bearer ",
            b"Bearer wrong",
            b"Bearer an-admin-token-for-test",
            b"Bearer an-admin-token-for-tests2",
            b"Basic an-admin-token-for-tests",
            b"an-admin-token-for-tests",
        ];
        assert_refused(&ask(&open, &[]).await?, 401, "unauthorized");
        for authorization in wrong {
            let answer = ask(&open, &[("authorization", authorization)]).await?;
            assert_refused(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let right = ("authorization", &b"Bearer an-admin-token-for-tests"[..]);
        for authorization in [&[][..], &[right]] {
            assert_refused(&ask(&closed, authorization).await?, 401, "unauthorized");
        }
        ask(&open, &[right]).await?.expect_success()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_id_of_1_to_128_visible_characters_is_taken_over_and_another_replaced()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let longest = "~!".repeat(64);
    for path in ["/livez", "/v1/orders/made-up"] {
        for given in ["7", "a/b\"c", &longest] {
            let headers = [("x-request-id", given.as_bytes())];
            let answer = send(&ingest, Method::GET, path, &headers, "").await?;
            assert_eq!(answer.header("x-request-id"), Some(given));
        }
        let too_long = format!("{longest}x");
        let mut replaced = BTreeSet::new();
        for given in [&b""[..], b"two words", b"\xe9", too_long.as_bytes()] {
            let headers = [("x-request-id", given)];
            let answer = send(&ingest, Method::GET, path, &headers, "").await?;
            let id: Uuid = answer.header("x-request-id").unwrap_or_default().parse()?;
            replaced.insert(id);
        }
        assert_eq!(replaced.len(), 4, "each has an id of its own");
    }
    let body = client::order("c-1", &[(CHAIR, 1)]).to_string();
    let answer = post(&ingest, &[("x-request-id", b"order-7")], body).await?;
    assert_accepted(&answer);
    assert_eq!(answer.header("x-request-id"), Some("order-7"));
    let answer = post(&ingest, &[("x-request-id", b"order-8")], "{").await?;
    assert_eq!(
        assert_refused(&answer, 400, "malformed")["request_id"],
        "order-8"
    );
    Ok(())
}
