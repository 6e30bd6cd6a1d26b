//! Claims about browsers: pages of the configured origins may call, and read refusals, too.

use hotrow_tests::{Process, client::Answer};
use reqwest::Method;

use super::{CHAIR, assert_accepted, assert_refused, ingest, one, place, post, put_up, send};

const SHOP: &str = "https://shop.example";

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_buy_and_reads_its_429() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("CORS_ORIGINS", format!("{SHOP},http://localhost:3000"))
        .set("RATE_LIMIT_IP", "1/h burst 1")
        .start()
        .await?;
    put_up(&ingest, CHAIR, 1_000).await?;
    // More preflights than purchases are allowed: they are not counted.
    for origin in [SHOP, "http://localhost:3000", SHOP] {
        let preflight = preflight(&ingest, origin, "POST").await?;
        assert!(preflight.status.is_success(), "{preflight:?}");
        assert_eq!(allowed(&preflight), Some(origin));
        let lists = |header, word: &str| {
            let list = preflight.header(header).unwrap_or_default();
            list.split(',')
                .any(|listed| listed.trim().eq_ignore_ascii_case(word))
        };
        for method in ["GET", "POST", "PUT", "PATCH"] {
            assert!(
                lists("access-control-allow-methods", method),
                "{preflight:?}"
            );
        }
        for header in [
            "content-type",
            "idempotency-key",
            "prefer",
            "if-none-match",
            "authorization",
            "x-request-id",
        ] {
            assert!(
                lists("access-control-allow-headers", header),
                "{header}: {preflight:?}"
            );
        }
    }
    let origin = ("origin", SHOP.as_bytes());
    let bought = post(&ingest, &[origin], one(CHAIR)).await?;
    assert_accepted(&bought);
    let limited = post(&ingest, &[origin], one(CHAIR)).await?;
    assert_refused(&limited, 429, "rate_limited");
    let missing = send(&ingest, Method::GET, "/v1/orders/made-up", &[origin], "").await?;
    assert_refused(&missing, 404, "not_found");
    for answer in [&bought, &limited, &missing] {
        assert_eq!(allowed(answer), Some(SHOP));
        // A cache must not give one origin's answer to another.
        let vary = answer.header("vary").unwrap_or_default();
        assert!(vary.to_lowercase().contains("origin"), "{vary}");
        let exposed = answer
            .header("access-control-expose-headers")
            .unwrap_or_default()
            .to_lowercase();
        for header in [
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
            "location",
            "etag",
            "x-request-id",
        ] {
            assert!(
                exposed.split(',').any(|listed| listed.trim() == header),
                "{header}: {exposed}"
            );
        }
    }

    for foreign in [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example.evil",
        "null",
    ] {
        let answers = [
            preflight(&ingest, foreign, "POST").await?,
            post(&ingest, &[("origin", foreign.as_bytes())], one(CHAIR)).await?,
        ];
        for answer in answers {
            assert_eq!(allowed(&answer), None, "{foreign}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_origins_no_page_may_call() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    assert_eq!(allowed(&preflight(&ingest, SHOP, "POST").await?), None);
    let answer = post(&ingest, &[("origin", SHOP.as_bytes())], one(CHAIR)).await?;
    assert_accepted(&answer);
    assert_eq!(allowed(&answer), None);
    Ok(())
}

async fn preflight(ingest: &Process, origin: &str, method: &str) -> anyhow::Result<Answer> {
    let headers: [(&str, &[u8]); 3] = [
        ("origin", origin.as_bytes()),
        ("access-control-request-method", method.as_bytes()),
        (
            "access-control-request-headers",
            b"content-type,idempotency-key",
        ),
    ];
    send(ingest, Method::OPTIONS, "/v1/orders", &headers, "").await
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}
