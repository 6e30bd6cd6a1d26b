//! Claims about secrets: who can verify, and who never sees one.

use anyhow::{Context, ensure};
use hotrow_tests::{processes::ORDER_ID_SECRET, wait};
use serde_json::json;

use super::{A_WHILE, Stage, event};

#[tokio::test]
async fn a_rotation_loses_nothing_because_both_secrets_sign_meanwhile() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let _webhooks = stage.webhooks().start().await?;
    let rotated = stage
        .post(&format!("/{}/rotate-secret", endpoint.id), json!({}))
        .await?;
    let rotated = rotated.expect(200)?.json()?;
    let secret = rotated["secret"].as_str().context("no secret")?.to_owned();
    assert_ne!(secret, endpoint.secret);
    assert!(rotated["previous_secret_until"].is_string(), "{rotated}");
    stage.publish(&[event("a/1")]).await?;
    stage.receive("/ok", 1).await?;
    let received = stage.receiver.received("/ok").remove(0);
    assert!(received.is_signed_by(&secret), "by the new one");
    assert!(received.is_signed_by(&endpoint.secret), "by the one before");

    // A day later.
    stage
        .sql("update webhooks set previous_secret_until = now()")
        .await?;
    stage.publish(&[event("b/1")]).await?;
    stage.receive("/ok", 2).await?;
    let received = stage.receiver.received("/ok").remove(1);
    assert!(received.is_signed_by(&secret));
    assert!(!received.is_signed_by(&endpoint.secret));
    Ok(())
}

#[tokio::test]
async fn secrets_outlive_a_rotation_of_the_installations_own() -> anyhow::Result<()> {
    const NEXT: &str = "the-secret-that-comes-after-it";
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let sealed = async || -> anyhow::Result<Vec<u8>> {
        let sealed = sqlx::query_scalar("select secret from webhooks");
        Ok(sealed.fetch_one(&stage.database).await?)
    };
    let before = sealed().await?;
    let rotating = stage
        .webhooks()
        .set("ORDER_ID_SECRET", NEXT)
        .set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET);
    let during = rotating.start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.receive("/ok", 1).await?;
    wait::until("the secret to be encrypted anew", A_WHILE, async || {
        (sealed().await.ok()? != before).then_some(())
    })
    .await?;
    drop(during);
    let _after = rotating.unset("ORDER_ID_SECRET_PREVIOUS").start().await?;
    stage.publish(&[event("b/1")]).await?;
    stage.receive("/ok", 2).await?;
    for received in stage.receiver.received("/ok") {
        ensure!(received.is_signed_by(&endpoint.secret), "{received:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_is_told_once_and_stands_in_no_log_no_answer_and_no_table() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage
        .register("/status/500?token=a-token-of-a-receiver")
        .await?;
    let webhooks = stage
        .webhooks()
        .set("RUST_LOG", "debug,hotrow_worker=trace")
        .start()
        .await?;
    stage.publish(&[event("a/1")]).await?;
    stage.attempted(&endpoint, 1).await?;
    let encoded = endpoint.secret.trim_start_matches("whsec_");
    let path = format!("/{}", endpoint.id);
    let answers = [
        stage.get("").await?,
        stage.get(&path).await?,
        stage.get(&format!("{path}/deliveries")).await?,
        stage
            .patch(&endpoint, json!({ "description": "x" }))
            .await?
            .json()?,
        stage
            .post(&format!("{path}/test"), json!({}))
            .await?
            .json()?,
    ];
    for answer in answers {
        let text = answer.to_string();
        ensure!(
            !text.contains(encoded) && !text.contains("\"secret\""),
            "{text}"
        );
    }
    ensure!(webhooks.has_logged("\"sent\""), "{}", webhooks.log_tail());
    for process in [&webhooks, &stage.ingest] {
        for secret in [encoded, "whsec_", "a-token-of-a-receiver"] {
            ensure!(!process.has_logged(secret), "{}", process.log_tail());
        }
    }
    let tables = "select (select string_agg(webhooks::text, ' ') from webhooks)
                      || (select string_agg(webhook_deliveries::text, ' ') from webhook_deliveries)";
    let tables: String = sqlx::query_scalar(tables)
        .fetch_one(&stage.database)
        .await?;
    ensure!(!tables.contains(encoded), "it stands in a table");
    Ok(())
}

#[tokio::test]
async fn without_the_key_of_its_secret_nothing_is_sent_to_an_endpoint_and_the_log_says_why()
-> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let sealed = stage.register("/ok").await?;
    let other = stage.register("/other").await?;
    // As if it had been sealed by a secret that nobody has any more.
    sqlx::query("update webhooks set secret = sha512(secret) where id <> $1")
        .bind(other.id)
        .execute(&stage.database)
        .await?;
    let webhooks = stage.webhooks().start().await?;
    stage.publish(&[event("a/1")]).await?;
    stage.receive("/other", 1).await?;
    wait::until("the log to say why", A_WHILE, async || {
        webhooks.has_logged("another ORDER_ID_SECRET").then_some(())
    })
    .await?;
    assert!(stage.receiver.ids("/ok").is_empty());

    // The way out, at once for a process that has not tried in vain.
    drop(webhooks);
    let rotate = format!("/{}/rotate-secret", sealed.id);
    stage.post(&rotate, json!({})).await?.expect(200)?;
    let _webhooks = stage.webhooks().start().await?;
    stage.receive("/ok", 1).await
}
