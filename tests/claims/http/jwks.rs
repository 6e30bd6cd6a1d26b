//! Claims about published keys: they are read again when they change, and the door never waits for their server.

use std::time::{Duration, Instant};

use hotrow_tests::{self as servers, Place, Process, Proxy, Settings, client::Answer, wait};
use reqwest::Method;

use super::{
    Headers, SOON, assert_refused, ingest,
    issuer::{Issuer, key_set},
    key_server::{KeyServer, Mode},
    place, send,
};

/// A route of the shop's programs, which needs no order.
const SHOP_ROUTE: &str = "/v1/payments/unmatched";
/// Longer than any answer may take because of the server of keys, on a busy machine.
const PROMPT: Duration = Duration::from_secs(4);
/// How often unknown keys have the server asked.
const ASK_INTERVAL: Duration = Duration::from_secs(30);

async fn ask(process: &Process, token: &str) -> anyhow::Result<Answer> {
    let token = format!("Bearer {token}");
    let headers: Headers<'_> = &[("authorization", token.as_bytes())];
    let began = Instant::now();
    let answer = send(process, Method::GET, SHOP_ROUTE, headers, "").await?;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    Ok(answer)
}

async fn status(process: &Process, token: &str) -> anyhow::Result<u16> {
    Ok(ask(process, token).await?.status.as_u16())
}

fn token(issuer: &Issuer) -> String {
    issuer.token("shop", "shop")
}

fn reading_from(place: &Place, server: &KeyServer) -> Settings {
    ingest(place)
        .set("AUTH_JWKS", &server.url)
        .set("SSL_CERT_FILE", &server.roots)
}

#[tokio::test]
async fn a_new_key_is_believed_at_once_and_a_token_of_one_that_left_is_forgotten()
-> anyhow::Result<()> {
    let place = place().await?;
    let (first, second, third) = (Issuer::ec("1"), Issuer::ed("2"), Issuer::rsa("3"));
    let server = KeyServer::of(key_set(&[&first])).await?;
    let ingest = reading_from(&place, &server).start().await?;
    let old = token(&first);
    for _ in 0..2 {
        assert_eq!(status(&ingest, &old).await?, 200);
    }
    assert_eq!(server.requests(), 1);

    server.become_now(Mode::Answer(200, key_set(&[&second])));
    assert_eq!(status(&ingest, &old).await?, 200, "nobody knows yet");
    assert_eq!(status(&ingest, &token(&second)).await?, 200);
    assert_eq!(server.requests(), 2);
    assert_eq!(
        status(&ingest, &old).await?,
        401,
        "it was remembered, and its key has left"
    );

    // Whoever invents keys has them read no more often than that.
    server.become_now(Mode::Answer(200, key_set(&[&third])));
    for _ in 0..20 {
        assert_eq!(status(&ingest, &token(&third)).await?, 401);
    }
    assert_eq!(server.requests(), 2);
    assert_eq!(status(&ingest, &token(&second)).await?, 200);
    Ok(())
}

#[tokio::test]
#[ignore = "waits for the interval in which unknown keys are asked for, half a minute"]
async fn a_key_that_came_too_soon_after_another_is_believed_half_a_minute_later()
-> anyhow::Result<()> {
    let place = place().await?;
    let (first, second) = (Issuer::ec("1"), Issuer::ec("2"));
    let server = KeyServer::of(key_set(&[&first])).await?;
    let ingest = reading_from(&place, &server).start().await?;
    assert_eq!(status(&ingest, &token(&second)).await?, 401);
    assert_eq!(server.requests(), 2);
    let asked = Instant::now();
    server.become_now(Mode::Answer(200, key_set(&[&first, &second])));
    let within = ASK_INTERVAL + SOON;
    wait::until("the new key to be read", within, async || {
        let status = status(&ingest, &token(&second)).await.ok()?;
        (status == 200).then_some(())
    })
    .await?;
    let took = asked.elapsed();
    assert!(took + Duration::from_secs(2) > ASK_INTERVAL, "{took:?}");
    assert_eq!(server.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn while_the_server_is_away_slow_or_confused_what_was_verifiable_stays_so()
-> anyhow::Result<()> {
    let place = place().await?;
    let known = Issuer::ec("1");
    let troubles = [
        ("slow", Mode::Hang),
        ("failing", Mode::Answer(500, String::new())),
        ("elsewhere", Mode::Answer(302, String::new())),
        ("empty", Mode::Answer(200, r#"{"keys":[]}"#.to_owned())),
        ("no JSON", Mode::Answer(200, "<html>".to_owned())),
        ("endless", Mode::Answer(200, " ".repeat(600_000))),
    ];
    for (trouble, mode) in troubles {
        let server = KeyServer::of(key_set(&[&known])).await?;
        let ingest = counting_refusals(reading_from(&place, &server));
        let ingest = ingest.start().await?;
        let remembered = token(&known);
        assert_eq!(status(&ingest, &remembered).await?, 200);
        server.become_now(mode);
        check_without_keys(&ingest, &known, &remembered, trouble).await?;
        assert_eq!(server.requests(), 2, "{trouble}");
    }
    let server = KeyServer::of(key_set(&[&known])).await?;
    let ingest = counting_refusals(reading_from(&place, &server));
    let ingest = ingest.start().await?;
    let remembered = token(&known);
    assert_eq!(status(&ingest, &remembered).await?, 200);
    server.stop();
    check_without_keys(&ingest, &known, &remembered, "away").await?;
    let age = async || {
        let metrics = ingest.metrics().await.ok()?;
        let age = metrics.value("hotrow_jwks_age_seconds", &[])?;
        (age > 0.0).then_some(())
    };
    wait::until("the keys to be older than new", SOON, age).await
}

/// With one refused token an hour, and no more.
fn counting_refusals(settings: Settings) -> Settings {
    settings.set("RATE_LIMIT_LOGINS", "1/h burst 1")
}

/// Of an unknown key nothing is known. That is said soon and does not count as a refused token, and neither it nor the
/// server keeps tokens of known keys waiting.
async fn check_without_keys(
    ingest: &Process,
    known: &Issuer,
    remembered: &str,
    trouble: &str,
) -> anyhow::Result<()> {
    let stranger = Issuer::ec("2");
    let unknown = token(&stranger);
    let unknown: Vec<_> = (0..10).map(|_| ask(ingest, &unknown)).collect();
    let unknown = futures_util::future::try_join_all(unknown);
    let new = token(known);
    let known = async {
        for token in [remembered, &new] {
            assert_eq!(status(ingest, token).await?, 200, "{trouble}");
        }
        anyhow::Ok(())
    };
    let (unknown, known) = tokio::join!(unknown, known);
    known?;
    for answer in unknown? {
        assert_refused(&answer, 503, "unavailable");
    }
    assert_eq!(status(ingest, remembered).await?, 200, "{trouble}");
    let metrics = ingest.metrics().await?;
    let refused = |why| metrics.count("hotrow_tokens_refused_total", &[("reason", why)]);
    assert_eq!(
        ["no_keys", "unknown_key"].map(refused),
        [10, 0],
        "{trouble}"
    );
    // What is wrong by any keys is refused all the same, and is the first that counts.
    for expected in [(401, "unauthorized"), (429, "rate_limited")] {
        let answer = ask(ingest, "no-token").await?;
        assert_refused(&answer, expected.0, expected.1);
    }
    Ok(())
}

#[tokio::test]
async fn a_process_that_starts_without_keys_says_that_it_has_none_until_it_has()
-> anyhow::Result<()> {
    let place = place().await?;
    let issuer = Issuer::ec("1");
    let server = KeyServer::start(Mode::Answer(503, String::new())).await?;
    let ingest = reading_from(&place, &server).start().await?;
    assert!(ingest.has_logged("the keys of AUTH_JWKS cannot be read"));
    server.become_now(Mode::Answer(200, key_set(&[&issuer])));
    assert_eq!(status(&ingest, &token(&issuer)).await?, 200);

    // Nobody vouches for this server.
    let stranger = reading_from(&place, &server)
        .unset("SSL_CERT_FILE")
        .start()
        .await?;
    let answer = ask(&stranger, &token(&issuer)).await?;
    assert_refused(&answer, 503, "unavailable");
    let metrics = stranger.metrics().await?;
    let refused = metrics.count("hotrow_tokens_refused_total", &[("reason", "no_keys")]);
    assert_eq!(refused, 1);
    let client = stranger.client()?;
    client.get(SHOP_ROUTE).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_keys_do_not_have_once_they_are_read_is_refused() -> anyhow::Result<()> {
    let place = place().await?;
    let (known, stranger) = (Issuer::ec("1"), Issuer::ec("2"));
    let server = KeyServer::of(key_set(&[&known])).await?;
    let ingest = counting_refusals(reading_from(&place, &server));
    let ingest = ingest.start().await?;
    let unknown = token(&stranger);
    // Read because of this token, and not there.
    let answer = ask(&ingest, &unknown).await?;
    let body = assert_refused(&answer, 401, "unauthorized");
    assert!(body["detail"].to_string().contains("its key is not known"));
    // What was read a moment ago says the same, and counts.
    assert_refused(&ask(&ingest, &unknown).await?, 429, "rate_limited");
    assert_eq!(server.requests(), 2);
    assert_eq!(status(&ingest, &token(&known)).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_missing_file_of_keys_ends_a_start_even_while_the_database_hangs() -> anyhow::Result<()> {
    let place = place().await?;
    let database = Proxy::in_front_of(&place.database_url).await?;
    database.set(servers::Mode::Stall).await?;
    let output = ingest(&place)
        .set("DATABASE_URL", database.url(&place.database_url)?)
        .set("AUTH_JWKS", "/no/such/file.json")
        .run(&[])
        .await?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    let told = "AUTH_JWKS: the file cannot be read";
    assert!(message.contains(told), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_file_is_read_again_like_a_server() -> anyhow::Result<()> {
    let place = place().await?;
    let (first, second) = (Issuer::ec("1"), Issuer::ec("2"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, key_set(&[&first]))?;
    let ingest = ingest(&place)
        .set("AUTH_JWKS", file.display().to_string())
        .start()
        .await?;
    let old = token(&first);
    assert_eq!(status(&ingest, &old).await?, 200);
    std::fs::write(&file, key_set(&[&second]))?;
    assert_eq!(status(&ingest, &token(&second)).await?, 200);
    assert_eq!(status(&ingest, &old).await?, 401);
    std::fs::remove_file(&file)?;
    assert_eq!(status(&ingest, &token(&second)).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_start_tells_of_keys_beyond_the_most_that_are_used() -> anyhow::Result<()> {
    /// The most that are used.
    const KEYS_MAX: usize = 32;
    let warning = "AUTH_JWKS has more keys than are used";
    let place = place().await?;
    let issuers: Vec<_> = (0..=KEYS_MAX)
        .map(|number| Issuer::ec(number.to_string().leak()))
        .collect();
    let issuers: Vec<_> = issuers.iter().collect();
    let folder = tempfile::tempdir()?;
    for (count, is_told, last) in [(KEYS_MAX, false, 200), (KEYS_MAX + 1, true, 401)] {
        let file = folder.path().join(format!("{count}.json"));
        std::fs::write(&file, key_set(&issuers[..count]))?;
        let ingest = ingest(&place)
            .set("AUTH_JWKS", file.display().to_string())
            .start()
            .await?;
        assert_eq!(ingest.has_logged(warning), is_told, "{count} keys");
        assert_eq!(status(&ingest, &token(issuers[0])).await?, 200);
        assert_eq!(status(&ingest, &token(issuers[count - 1])).await?, last);
    }
    Ok(())
}
