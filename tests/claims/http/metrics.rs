//! Claims about the metrics of an ingest process: all there from the start, and true.

use hotrow_tests::metrics::Metrics;

use super::{
    CHAIR, PARTITIONS, assert_accepted, assert_refused, ingest, one, place, post, put_up, settled,
    worker,
};

const CODES: [&str; 11] = [
    "malformed",
    "too_large",
    "unsupported_media_type",
    "forbidden",
    "invalid",
    "idempotency_mismatch",
    "sold_out",
    "rate_limited",
    "overloaded",
    "unavailable",
    "outcome_unknown",
];

const STRIPE_OUTCOMES: [&str; 10] = [
    "confirm",
    "extend",
    "ignored",
    "no_order",
    "other_mode",
    "unknown_order",
    "bad_signature",
    "malformed",
    "not_settled",
    "unavailable",
];

const TOKENS_REFUSED: [&str; 12] = [
    "malformed",
    "too_large",
    "algorithm",
    "unknown_key",
    "signature",
    "expired",
    "not_yet_valid",
    "issuer",
    "audience",
    "subject",
    "admin_token",
    "no_keys",
];

const COMMAND_ANSWERS: [u16; 8] = [200, 202, 401, 404, 409, 422, 429, 503];

const ROUTES: [(&str, &str, &[u16]); 15] = [
    (
        "/v1/orders",
        "POST",
        &[202, 400, 401, 403, 409, 413, 415, 422, 429, 503],
    ),
    ("/v1/orders", "GET", &[200, 401, 404, 422, 429, 503]),
    (
        "/v1/orders/{order_id}",
        "GET",
        &[200, 304, 401, 404, 429, 503],
    ),
    (
        "/v1/orders/{order_id}/changes",
        "GET",
        &[200, 401, 404, 409, 422, 503],
    ),
    ("/v1/orders/{order_id}/confirm", "POST", &COMMAND_ANSWERS),
    ("/v1/orders/{order_id}/cancel", "POST", &COMMAND_ANSWERS),
    ("/v1/orders/{order_id}/extend", "POST", &COMMAND_ANSWERS),
    (
        "/v1/payments/unmatched",
        "GET",
        &[200, 401, 403, 422, 429, 503],
    ),
    (
        "/v1/payments/unmatched/{id}/resolve",
        "POST",
        &[200, 401, 404, 422, 503],
    ),
    ("/v1/inventory", "GET", &[200, 422, 429, 503]),
    ("/v1/inventory/{sku}", "GET", &[200, 404, 422, 429, 503]),
    (
        "/v1/inventory/{sku}",
        "PUT",
        &[200, 201, 401, 403, 422, 503],
    ),
    ("/v1/inventory/{sku}", "PATCH", &[200, 401, 404, 422, 503]),
    (
        "/v1/inventory/{sku}/restock",
        "POST",
        &[200, 401, 404, 422, 503],
    ),
    ("/readyz", "GET", &[200, 503]),
];

#[tokio::test]
async fn every_series_exists_at_zero_from_the_start() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let text = reqwest::get(ingest.metrics_url()?).await?.text().await?;
    let types = [
        ("hotrow_http_requests_total", "counter"),
        ("hotrow_http_request_duration_seconds", "histogram"),
        ("hotrow_connections", "gauge"),
        ("hotrow_connections_refused_total", "counter"),
        ("hotrow_connections_ended_total", "counter"),
        ("hotrow_orders_accepted_total", "counter"),
        ("hotrow_orders_refused_total", "counter"),
        ("hotrow_tokens_refused_total", "counter"),
        ("hotrow_jwks_age_seconds", "gauge"),
        ("hotrow_rate_limited_total", "counter"),
        ("hotrow_envelope_orders", "histogram"),
        ("hotrow_publish_confirm_seconds", "histogram"),
        ("hotrow_queued_orders", "gauge"),
        ("hotrow_stripe_events_total", "counter"),
        ("hotrow_build_info", "gauge"),
    ];
    for (name, kind) in types {
        assert!(
            text.contains(&format!("# TYPE {name} {kind}\n")),
            "{name}: {text}"
        );
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }

    let metrics = Metrics::parse(&text)?;
    let zero = |name: &str, labels: &[(&str, &str)]| {
        let value = metrics.value(name, labels);
        assert_eq!(value, Some(0.0), "{name} {labels:?}");
    };
    zero("hotrow_orders_accepted_total", &[]);
    for reason in ["full", "address"] {
        zero("hotrow_connections_refused_total", &[("reason", reason)]);
    }
    for reason in ["slow_head", "slow_reader"] {
        zero("hotrow_connections_ended_total", &[("reason", reason)]);
    }
    for limit in [
        "ip",
        "ip_48",
        "customer",
        "changes",
        "global",
        "reads",
        "reads_48",
        "logins",
        "logins_48",
    ] {
        zero("hotrow_rate_limited_total", &[("limit", limit)]);
    }
    zero("hotrow_envelope_orders_count", &[]);
    zero("hotrow_publish_confirm_seconds_count", &[]);
    for code in CODES {
        zero("hotrow_orders_refused_total", &[("code", code)]);
    }
    // Also where no tokens are checked.
    for reason in TOKENS_REFUSED {
        zero("hotrow_tokens_refused_total", &[("reason", reason)]);
    }
    zero("hotrow_jwks_age_seconds", &[]);
    // Also where Stripe is not set up.
    for outcome in STRIPE_OUTCOMES {
        zero("hotrow_stripe_events_total", &[("outcome", outcome)]);
    }
    for partition in 0..PARTITIONS {
        zero(
            "hotrow_queued_orders",
            &[("partition", &partition.to_string())],
        );
    }
    for (route, method, statuses) in ROUTES {
        for status in statuses.iter().map(u16::to_string) {
            let labels = [("route", route), ("method", method), ("status", &*status)];
            if route == "/readyz" {
                // It has been asked for already.
                assert!(
                    metrics
                        .value("hotrow_http_requests_total", &labels)
                        .is_some()
                );
                continue;
            }
            zero("hotrow_http_requests_total", &labels);
            zero("hotrow_http_request_duration_seconds_count", &labels);
        }
    }
    let build = metrics.samples("hotrow_build_info", &[]).next().cloned();
    let build = build.expect("a build");
    assert_eq!(build.value.to_string(), "1");
    assert!(
        ["version", "commit"]
            .iter()
            .all(|label| build.labels.contains_key(*label)),
        "{build:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_metrics_count_what_happened_and_name_nobody() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 100).await?;
    let client = ingest.client()?;
    let mut last = None;
    for number in 0..5 {
        let key = format!("key-{number}");
        let answer = post(&ingest, &[("idempotency-key", key.as_bytes())], one(CHAIR)).await?;
        last = Some(assert_accepted(&answer));
    }
    for body in ["{", "[", "{}"] {
        post(&ingest, &[], body).await?;
    }
    client.get("/v1/orders/made-up").await?.expect(404)?;
    client.get("/v1/inventory/chair").await?.expect(200)?;
    client.get("/no/such/path").await?.expect(404)?;
    client
        .send(
            reqwest::Method::from_bytes(b"BREW")?,
            "/v1/orders",
            &[],
            None,
        )
        .await?
        .expect(405)?;

    let metrics = ingest.metrics().await?;
    let requests = |route: &str, method: &str, status: &str| {
        let labels = [("route", route), ("method", method), ("status", status)];
        let requests = metrics.count("hotrow_http_requests_total", &labels);
        assert_eq!(
            metrics.count("hotrow_http_request_duration_seconds_count", &labels),
            requests
        );
        requests
    };
    assert_eq!(requests("/v1/orders", "POST", "202"), 5);
    assert_eq!(requests("/v1/orders", "POST", "400"), 2);
    assert_eq!(requests("/v1/orders", "POST", "422"), 1);
    assert_eq!(requests("/v1/orders/{order_id}", "GET", "404"), 1);
    assert_eq!(requests("/v1/inventory/{sku}", "GET", "200"), 1);
    assert_eq!(requests("/v1/inventory/{sku}", "PUT", "201"), 1);
    assert_eq!(requests("unmatched", "GET", "404"), 1);
    assert_eq!(
        metrics.count("hotrow_http_requests_total", &[("status", "405")]),
        1
    );
    assert_eq!(metrics.count("hotrow_orders_accepted_total", &[]), 5);
    let refused = |code| metrics.count("hotrow_orders_refused_total", &[("code", code)]);
    assert_eq!((refused("malformed"), refused("invalid")), (2, 1));
    assert_eq!(metrics.count("hotrow_orders_refused_total", &[]), 3);
    assert_eq!(metrics.count("hotrow_envelope_orders_sum", &[]), 5);
    let envelopes = metrics.count("hotrow_envelope_orders_count", &[]);
    assert_eq!(envelopes, 5, "one after the other, each travels alone");
    assert_eq!(
        metrics.count("hotrow_publish_confirm_seconds_count", &[]),
        envelopes
    );
    assert_eq!(metrics.count("hotrow_queued_orders", &[]), 5);

    let text = reqwest::get(ingest.metrics_url()?).await?.text().await?;
    for name in ["chair", "c-1", "key-", "made-up", "BREW", "no/such"] {
        assert!(!text.contains(name), "{name}");
    }

    let _worker = worker(&place).start().await?;
    settled(&client, last.expect("five orders")).await?;
    hotrow_tests::wait::until("the gauge to fall", super::SOON, async || {
        let queued = ingest
            .metrics()
            .await
            .ok()?
            .count("hotrow_queued_orders", &[]);
        (queued == 0).then_some(())
    })
    .await
}

#[tokio::test]
async fn metrics_have_a_listener_of_their_own() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let metrics = ingest.metrics_url()?;
    let there = reqwest::get(&metrics).await?;
    assert!(there.status().is_success());
    let content_type = there.headers()["content-type"].to_str()?;
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    let orders = metrics.replace("/metrics", "/v1/orders");
    assert_eq!(reqwest::get(orders).await?.status(), 404);
    assert_refused(&ingest.client()?.get("/metrics").await?, 404, "not_found");
    Ok(())
}
