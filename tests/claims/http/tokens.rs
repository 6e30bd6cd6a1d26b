//! Claims about tokens: which are believed, which are refused and why, and how often somebody may be wrong.

use anyhow::ensure;
use hotrow_tests::{Place, Process, Settings, client::Answer, processes::ADMIN_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CHAIR, Headers, assert_accepted, assert_refused, ingest,
    issuer::{Issuer, SECRET, claims, now},
    place, post, raw, send,
};

/// A route of the shop's programs, which needs no order.
pub(crate) const SHOP_ROUTE: &str = "/v1/payments/unmatched";

/// Asks a route with a token.
pub(crate) async fn ask(process: &Process, path: &str, token: &str) -> anyhow::Result<Answer> {
    let token = format!("Bearer {token}");
    let headers: Headers<'_> = &[("authorization", token.as_bytes())];
    send(process, Method::GET, path, headers, "").await
}

/// Checks that a token of the shop is believed.
pub(crate) async fn assert_believed(
    process: &Process,
    token: &str,
    what: &str,
) -> anyhow::Result<()> {
    let answer = ask(process, SHOP_ROUTE, token).await?;
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{what}: {body}");
    Ok(())
}

/// Checks that a token is refused as one, and that the refusal says why.
pub(crate) async fn assert_wrong(process: &Process, token: &str, why: &str) -> anyhow::Result<()> {
    let answer = ask(process, SHOP_ROUTE, token).await?;
    assert_eq!(answer.status, 401, "{why}");
    let body = assert_refused(&answer, 401, "unauthorized");
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#));
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(why), "{detail:?} should say {why:?}");
    Ok(())
}

/// How many tokens a process has refused for a reason.
pub(crate) async fn refused(process: &Process, reason: &str) -> anyhow::Result<u64> {
    let metrics = process.metrics().await?;
    Ok(metrics.count("hotrow_tokens_refused_total", &[("reason", reason)]))
}

pub(crate) fn checked(place: &Place) -> Settings {
    ingest(place).set("AUTH_SECRET", SECRET)
}

#[tokio::test]
async fn the_shared_secret_may_stand_in_a_file() -> anyhow::Result<()> {
    let place = place().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n"))?;
    let ingest = ingest(&place)
        .set("AUTH_SECRET_FILE", file.display().to_string())
        .start()
        .await?;
    let token = Issuer::secret(SECRET.as_bytes()).token("shop", "shop");
    assert_believed(&ingest, &token, "without the end of the line").await
}

#[tokio::test]
async fn a_token_is_for_this_shop_from_its_issuer_and_for_now() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place)
        .set("AUTH_ISSUER", "https://id.example")
        .set("AUTH_AUDIENCE", "hotrow")
        .start()
        .await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    let token = |changed: Value| {
        let mut claims = claims("shop", "shop");
        claims["iss"] = json!("https://id.example");
        claims["aud"] = json!("hotrow");
        for (name, value) in changed.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        issuer.sign(&claims)
    };
    let now = now();
    for right in [
        json!({}),
        json!({ "aud": ["other", "hotrow"] }),
        json!({ "nbf": now }),
        // 30 seconds of leeway, less what a slow machine takes.
        json!({ "exp": now - 10 }),
        json!({ "nbf": now + 25 }),
    ] {
        assert_believed(&ingest, &token(right.clone()), &right.to_string()).await?;
    }
    for (wrong, why) in [
        (json!({ "iss": "https://id.example.evil" }), "issuer"),
        (json!({ "iss": null }), "issuer"),
        (json!({ "aud": "other" }), "audience"),
        (json!({ "aud": ["other"] }), "audience"),
        (json!({ "aud": null }), "audience"),
        (json!({ "exp": now - 31 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "nbf": now + 90 }), "not valid yet"),
        (json!({ "exp": null }), "with an exp"),
        (json!({ "exp": "soon" }), "with an exp"),
        (json!({ "sub": "two words" }), "sub"),
        (json!({ "sub": "x".repeat(129) }), "sub"),
        (json!({ "sub": "" }), "sub"),
        (json!({ "sub": null }), "sub"),
        (json!({ "sub": 7 }), "sub"),
    ] {
        assert_wrong(&ingest, &token(wrong), why).await?;
    }
    for (reason, count) in [
        ("issuer", 2),
        ("audience", 3),
        ("expired", 2),
        ("not_yet_valid", 1),
        ("malformed", 2),
        ("subject", 5),
    ] {
        assert_eq!(refused(&ingest, reason).await?, count, "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_was_remembered_ends_when_it_says() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place).start().await?;
    let mut claims = claims("shop", "shop");
    claims["exp"] = json!(now() - 26);
    let token = Issuer::secret(SECRET.as_bytes()).sign(&claims);
    assert_believed(&ingest, &token, "within the leeway").await?;
    super::wait::until("the token to end", super::SOON, async || {
        let answer = ask(&ingest, SHOP_ROUTE, &token).await.ok()?;
        (answer.status == 401).then_some(())
    })
    .await
}

#[tokio::test]
async fn what_is_no_token_is_refused_however_large_it_is() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place).start().await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    let right = issuer.token("shop", "shop");
    for token in ["", "x", "..", "a.b.c", "null", "{}.{}.{}"] {
        assert_wrong(&ingest, token, "no signed JSON Web Token").await?;
    }
    assert_wrong(&ingest, &format!("{right}.x"), "").await?;
    let mut large = claims("shop", "shop");
    large["note"] = json!("x".repeat(20_000));
    assert_wrong(&ingest, &issuer.sign(&large), "longer than").await?;
    // No head of a request may be that large, and the rest of it is not waited for.
    large["note"] = json!("x".repeat(100_000));
    let head = format!(
        "GET {SHOP_ROUTE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}",
        issuer.sign(&large)
    );
    let mut endless = raw::Client::connect(&ingest).await?;
    endless.send(&head[..65 * 1024]).await?;
    assert_eq!(endless.answer().await?, 431);
    assert_believed(&ingest, &right, "after all that").await?;

    let (bearer, other) = (format!("Bearer {right}"), format!("bEaReR {right}"));
    let ask =
        async |headers: Headers<'_>| send(&ingest, Method::GET, SHOP_ROUTE, headers, "").await;
    let answer = ask(&[("authorization", other.as_bytes())]).await?;
    assert_eq!(answer.status, 200, "the scheme is a word in any case");
    let twice = [("authorization", bearer.as_bytes()); 2];
    assert_refused(&ask(&twice).await?, 401, "unauthorized");
    assert_refused(
        &ask(&[("authorization", b"Bearer \xff")]).await?,
        401,
        "unauthorized",
    );
    // Another scheme is no token.
    let answer = ask(&[("authorization", b"Basic dXNlcjpwYXNz")]).await?;
    assert_refused(&answer, 401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    Ok(())
}

#[tokio::test]
async fn the_role_is_where_the_setting_says_and_an_unknown_word_is_a_customer() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = checked(&place)
        .set("AUTH_ROLE_CLAIM", "realm_access.roles")
        .start()
        .await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    for (roles, status) in [
        (json!(["offline_access", "shop", "customer"]), 200),
        (json!("admin"), 200),
        (json!(["support"]), 403),
        (json!(["Shop", "superuser", "system"]), 403),
        (json!(null), 403),
    ] {
        // The usual claim does not count here.
        let mut claims = claims("c-1", "admin");
        claims["realm_access"] = json!({ "roles": roles });
        let answer = ask(&ingest, SHOP_ROUTE, &issuer.sign(&claims)).await?;
        assert_eq!(answer.status, status, "{roles}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_sent_is_checked_on_every_route() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place).start().await?;
    for path in ["/v1/inventory", "/v1/inventory/chair", "/v1/orders?ids=x"] {
        assert_refused(&ask(&ingest, path, "wrong").await?, 401, "unauthorized");
    }
    let answer = send(&ingest, Method::GET, "/v1/inventory", &[], "").await?;
    assert_eq!(answer.status, 200, "nobody has to send one here");
    let wrong = ("authorization", &b"Bearer wrong"[..]);
    let body = super::one(CHAIR);
    assert_refused(&post(&ingest, &[wrong], body).await?, 401, "unauthorized");
    Ok(())
}

#[tokio::test]
async fn both_tokens_of_administrators_work_while_they_are_rotated() -> anyhow::Result<()> {
    let place = place().await?;
    let previous = "the-token-that-was-there-before";
    for settings in [ingest(&place), checked(&place)] {
        let ingest = settings
            .set("ADMIN_TOKEN_PREVIOUS", previous)
            .start()
            .await?;
        for token in [ADMIN_TOKEN, previous] {
            assert_believed(&ingest, token, token).await?;
        }
        for wrong in [
            "an-admin-token-for-test",
            "the-token-that-was-there-before2",
        ] {
            let answer = ask(&ingest, SHOP_ROUTE, wrong).await?;
            assert_refused(&answer, 401, "unauthorized");
        }
    }
    Ok(())
}

#[tokio::test]
async fn refused_tokens_are_limited_by_address_and_a_right_one_always_passes() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = checked(&place)
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .set("RATE_LIMIT_LOGINS", "1/h burst 2")
        .start()
        .await?;
    let right = Issuer::secret(SECRET.as_bytes()).token("shop", "shop");
    let try_from = async |address: &str, token: &str| {
        let token = format!("Bearer {token}");
        let headers: Headers<'_> = &[
            ("x-forwarded-for", address.as_bytes()),
            ("authorization", token.as_bytes()),
        ];
        send(&ingest, Method::GET, SHOP_ROUTE, headers, "").await
    };
    for _ in 0..2 {
        let answer = try_from("1.1.1.1", "wrong").await?;
        assert_refused(&answer, 401, "unauthorized");
        assert_eq!(try_from("1.1.1.1", &right).await?.status, 200);
    }
    let answer = try_from("1.1.1.1", "wrong").await?;
    let body = assert_refused(&answer, 429, "rate_limited");
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("refused tokens from this address"),
        "{detail}"
    );
    let policy = answer.header("ratelimit-policy");
    assert_eq!(policy, Some(r#""logins";q=2;w=7200"#));
    // The right token passes, remembered or not, and so does the administrators'.
    let another = Issuer::secret(SECRET.as_bytes()).token("shop-2", "shop");
    for token in [&right, &another, ADMIN_TOKEN] {
        assert_eq!(try_from("1.1.1.1", token).await?.status, 200);
    }
    let answer = try_from("2.2.2.2", "wrong").await?;
    assert_refused(&answer, 401, "unauthorized");
    assert_eq!(refused(&ingest, "malformed").await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_start_refuses_keys_that_protect_nothing_and_says_so_where_none_are() -> anyhow::Result<()>
{
    let place = place().await?;
    let strict = |settings: Settings| {
        settings
            .unset("DEVELOPMENT")
            .set("ADMIN_TOKEN", "a-token-of-administrators-of-tests")
    };
    for (settings, named) in [
        (
            strict(ingest(&place)).set("AUTH_SECRET", "31-bytes-are-one-byte-too-short"),
            &["AUTH_SECRET: must be at least 32 bytes"][..],
        ),
        (
            strict(ingest(&place)).set(
                "AUTH_SECRET",
                "development-only-secret-that-is-published-everywhere",
            ),
            &["AUTH_SECRET: this secret is published"],
        ),
        (
            strict(ingest(&place)).set("ADMIN_TOKEN_PREVIOUS", "short"),
            &["ADMIN_TOKEN_PREVIOUS: must be at least 16"],
        ),
        (
            checked(&place).set("AUTH_JWKS", "http://id.example/jwks.json"),
            &["AUTH_JWKS: must be a path", "give either AUTH_SECRET or"],
        ),
        (
            ingest(&place)
                .set("AUTH_ISSUER", "https://id.example")
                .set("AUTH_AUDIENCE", "hotrow")
                .set("AUTH_ROLE_CLAIM", "roles"),
            &[
                "AUTH_ISSUER: needs",
                "AUTH_AUDIENCE: needs",
                "AUTH_ROLE_CLAIM: needs",
            ],
        ),
        (
            checked(&place)
                .set("ADMIN_TOKEN_PREVIOUS", ADMIN_TOKEN)
                .set("AUTH_SECRETS", SECRET),
            &[
                "ADMIN_TOKEN_PREVIOUS: must differ",
                "AUTH_SECRETS is not a setting",
            ],
        ),
        (
            ingest(&place).set("AUTH_JWKS", "/no/such/file.json"),
            &["AUTH_JWKS: the file cannot be read"],
        ),
    ] {
        let output = settings.run(&[]).await?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{named:?}: it started");
        for name in named {
            assert!(message.contains(name), "{name}: {message}");
        }
        for secret in [SECRET, "31-bytes", "published-everywhere"] {
            assert!(!message.contains(secret), "{message}");
        }
    }
    let open = ingest(&place).start().await?;
    assert!(open.has_logged("the shop is open: customer_id is believed"));
    let checked = checked(&place).start().await?;
    assert!(!checked.has_logged("the shop is open"));
    assert!(checked.has_logged("AUTH_AUDIENCE is not set"));
    Ok(())
}

#[tokio::test]
async fn neither_a_token_nor_the_secret_stands_in_a_log() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place)
        .set("RUST_LOG", "trace")
        .set("LOG_SAMPLE", "1")
        .start()
        .await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    let token = issuer.token("c-1", "customer");
    let body = json!({ "items": [{ "sku": CHAIR, "quantity": 1 }] }).to_string();
    let bearer = format!("Bearer {token}");
    let headers: Headers<'_> = &[("authorization", bearer.as_bytes())];
    assert_accepted(&post(&ingest, headers, body).await?);
    let forged = damaged(&token);
    assert_wrong(&ingest, &forged, "signature").await?;
    let signature = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    for secret in [SECRET, ADMIN_TOKEN, &signature(&token), &signature(&forged)] {
        assert!(!ingest.has_logged(secret), "{secret}");
    }
    Ok(())
}

/// The same with another signature of the same length.
pub(crate) fn damaged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').expect("a signed token");
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{message}.{first}{}", &signature[1..])
}
