//! Claims about the limits: who is counted as whom, and how a client hears of it.

use std::net::{IpAddr, SocketAddr};

use hotrow_tests::{Process, client, client::Answer};
use reqwest::Method;
use serde_json::Value;

use super::{
    CHAIR, assert_accepted, assert_refused, envelopes, ingest, one, place, post, put_up, send,
};

#[tokio::test]
async fn a_limit_of_an_address_of_a_customer_and_of_all_says_how_long_to_wait() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place)
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .set("RATE_LIMIT_CUSTOMER", "1/h burst 2")
        .set("RATE_LIMIT_IP", "2/h burst 4")
        .set("RATE_LIMIT_GLOBAL", "1/h burst 6")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let order = async |address: &str, customer: &str| {
        let body = client::order(customer, &[(CHAIR, 1)]).to_string();
        post(&ingest, &[("x-forwarded-for", address.as_bytes())], body).await
    };
    for _ in 0..2 {
        assert_accepted(&order("1.1.1.1", "c-1").await?);
    }
    assert_limited(&order("1.1.1.1", "c-1").await?, "customer", 2, 7_200);
    // The refusal counted as a request of the address: that is its fourth.
    assert_accepted(&order("1.1.1.1", "c-2").await?);
    assert_limited(&order("1.1.1.1", "c-2").await?, "ip", 4, 7_200);
    assert_accepted(&order("2.2.2.2", "c-2").await?);
    assert_limited(&order("2.2.2.2", "c-2").await?, "customer", 2, 7_200);
    assert_limited(&order("3.3.3.3", "c-3").await?, "global", 6, 21_600);

    let metrics = ingest.metrics().await?;
    let limited = metrics.count("hotrow_orders_refused_total", &[("code", "rate_limited")]);
    assert_eq!(limited, 4);
    assert_eq!(metrics.count("hotrow_orders_accepted_total", &[]), 4);
    assert_eq!(envelopes(&place).await?, 4);
    let by_limit = |limit| metrics.count("hotrow_rate_limited_total", &[("limit", limit)]);
    assert_eq!(
        ["customer", "ip", "global", "reads"].map(by_limit),
        [2, 1, 1, 0]
    );
    // A poll is no purchase.
    ingest.client()?.get("/livez").await?.expect(200)?;
    ingest
        .client()?
        .get("/v1/orders/made-up")
        .await?
        .expect(404)?;
    Ok(())
}

#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_peer() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.2/32")
        .set("RATE_LIMIT_IP", "1/h burst 1")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let (stranger, proxy) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    // Who may say anything gets no second turn for saying something else.
    assert_accepted(&order_from(&ingest, stranger, "1.1.1.1").await?);
    assert_limited(
        &order_from(&ingest, stranger, "2.2.2.2").await?,
        "ip",
        1,
        3_600,
    );
    for client in ["1.1.1.1", "2.2.2.2"] {
        assert_accepted(&order_from(&ingest, proxy, client).await?);
        // What the client itself wrote in front of the proxy's word changes nothing.
        let claim = format!("9.9.9.9, {client}, 10.1.1.1");
        assert_limited(&order_from(&ingest, proxy, &claim).await?, "ip", 1, 3_600);
    }
    // An IPv6 client has a whole /64 to choose from, and is counted by it.
    assert_accepted(&order_from(&ingest, proxy, "2001:db8:1:2::1").await?);
    let neighbour = order_from(&ingest, proxy, "2001:db8:1:2:3::1").await?;
    assert_limited(&neighbour, "ip", 1, 3_600);
    assert_accepted(&order_from(&ingest, proxy, "2001:db8:1:3::1").await?);
    Ok(())
}

#[tokio::test]
async fn reads_have_a_limit_of_their_own_in_which_a_wait_counts_once() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("CORS_ORIGINS", "*")
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .set("RATE_LIMIT_READS", "1/h burst 4")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 5).await?;
    let from = |address: &'static str| [("x-forwarded-for", address.as_bytes())];
    let read = async |method: Method, path: &str, address| {
        send(&ingest, method, path, &from(address), "").await
    };
    let bought = post(&ingest, &from("1.1.1.1"), one(CHAIR)).await?;
    let order = format!("/v1/orders/{}", assert_accepted(&bought));
    // No worker runs, so it waits to its end and looks several times.
    let waited = read(Method::GET, &format!("{order}?wait=3"), "1.1.1.1").await?;
    assert_eq!(waited.json()?["status"], "queued");
    for path in ["/v1/inventory/chair", "/v1/inventory", "/v1/orders/made-up"] {
        read(Method::GET, path, "1.1.1.1").await?;
    }
    for path in [&order, "/v1/inventory/chair", "/v1/payments/unmatched"] {
        let limited = read(Method::GET, path, "1.1.1.1").await?;
        assert_limited(&limited, "reads", 4, 14_400);
        let told = limited.json()?["detail"].to_string();
        assert!(told.contains("too many reads from this address"), "{told}");
    }
    let limited = read(Method::HEAD, &order, "1.1.1.1").await?;
    assert_eq!(limited.status, 429);

    // Other addresses, purchases, probes and preflights go on.
    read(Method::GET, &order, "2.2.2.2").await?.expect(200)?;
    assert_accepted(&post(&ingest, &from("1.1.1.1"), one(CHAIR)).await?);
    for _ in 0..5 {
        for probe in ["/livez", "/readyz"] {
            read(Method::GET, probe, "1.1.1.1").await?.expect(200)?;
        }
        let preflight: [(&str, &[u8]); 3] = [
            ("x-forwarded-for", b"1.1.1.1"),
            ("origin", b"https://shop.example"),
            ("access-control-request-method", b"GET"),
        ];
        let preflight = send(&ingest, Method::OPTIONS, &order, &preflight, "").await?;
        assert!(preflight.status.is_success(), "{preflight:?}");
    }
    let metrics = ingest.metrics().await?;
    let limited = metrics.count("hotrow_rate_limited_total", &[("limit", "reads")]);
    assert_eq!(limited, 4);
    let refused = metrics.count("hotrow_orders_refused_total", &[]);
    assert_eq!(refused, 0, "a read is no purchase");
    Ok(())
}

#[tokio::test]
async fn a_network_of_ipv6_has_sixteen_times_the_limit_of_an_address() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .set("RATE_LIMIT_IP", "1/h burst 1")
        .set("RATE_LIMIT_READS", "2/h burst 2")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let order = async |address: &str| {
        post(
            &ingest,
            &[("x-forwarded-for", address.as_bytes())],
            one(CHAIR),
        )
        .await
    };
    for subnet in 0..16 {
        let address = format!("2001:db8:1:{subnet:x}::1");
        assert_accepted(&order(&address).await?);
        // What one address may not do does not count for its neighbours.
        assert_limited(&order(&address).await?, "ip", 1, 3_600);
    }
    let seventeenth = order("2001:db8:1:ffff::1").await?;
    assert_limited(&seventeenth, "ip_48", 16, 3_600);
    assert_accepted(&order("2001:db8:2::1").await?);
    let metrics = ingest.metrics().await?;
    let by_limit = |limit| metrics.count("hotrow_rate_limited_total", &[("limit", limit)]);
    assert_eq!([by_limit("ip"), by_limit("ip_48")], [16, 1]);

    for subnet in 0..32 {
        let address = format!("2001:db8:1:{subnet:x}::1");
        let from: [(&str, &[u8]); 1] = [("x-forwarded-for", address.as_bytes())];
        send(&ingest, Method::GET, "/v1/inventory", &from, "")
            .await?
            .expect(200)?;
    }
    let from: [(&str, &[u8]); 1] = [("x-forwarded-for", b"2001:db8:1:ffff::1")];
    let limited = send(&ingest, Method::GET, "/v1/inventory", &from, "").await?;
    assert_limited(&limited, "reads_48", 32, 3_600);
    Ok(())
}

/// Checks a 429, with the headers of draft-ietf-httpapi-ratelimit-headers: the policy's `q` pieces in
/// a window of `w` seconds, of which nothing remains for `t` seconds.
#[track_caller]
pub(crate) fn assert_limited(answer: &Answer, policy: &str, burst: u32, window: u32) -> Value {
    let body = assert_refused(answer, 429, "rate_limited");
    let wait: u32 = answer
        .header("retry-after")
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    assert!(
        (1..=window.div_ceil(burst)).contains(&wait),
        "Retry-After: {wait}"
    );
    let expected = format!("\"{policy}\";q={burst};w={window}");
    assert_eq!(answer.header("ratelimit-policy"), Some(&*expected));
    let expected = format!("\"{policy}\";r=0;t={wait}");
    assert_eq!(answer.header("ratelimit"), Some(&*expected));
    body
}

/// An order from a loopback address, forwarded for another.
async fn order_from(
    ingest: &Process,
    local: impl Into<IpAddr>,
    forwarded_for: &str,
) -> anyhow::Result<Answer> {
    let address: SocketAddr = ingest.address()?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .local_address(local.into())
        .build()?;
    let request = http
        .request(Method::POST, format!("http://{address}/v1/orders"))
        .header("content-type", "application/json")
        .header("x-forwarded-for", forwarded_for)
        .body(one(CHAIR));
    let answer = request.send().await?;
    Ok(Answer {
        status: answer.status(),
        headers: answer.headers().clone(),
        body: answer.bytes().await?,
    })
}
