//! Claims about how tokens are signed: each key is good for its own algorithm, and for nothing else.

use serde_json::json;

use super::{
    assert_refused, ingest,
    issuer::{Issuer, SECRET, claims, key_set, unsigned},
    place,
    tokens::{SHOP_ROUTE, ask, assert_believed, assert_wrong, checked, damaged, refused},
};

#[tokio::test]
async fn each_algorithm_is_taken_with_its_own_key_alone() -> anyhow::Result<()> {
    let place = place().await?;
    let (rsa, ec, ed) = (Issuer::rsa("r"), Issuer::ec("e"), Issuer::ed("d"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, key_set(&[&rsa, &ec, &ed]))?;
    let ingest = ingest(&place)
        .set("AUTH_JWKS", file.display().to_string())
        .start()
        .await?;
    let all = [&rsa, &ec, &ed];
    for issuer in all {
        let token = issuer.token("shop", "shop");
        for what in ["at first", "remembered"] {
            assert_believed(&ingest, &token, what).await?;
        }
        let damaged = damaged(&token);
        assert_wrong(&ingest, &damaged, "its signature is wrong").await?;
    }
    // A token that names no key is tried with those of its algorithm.
    let nameless = Issuer::rsa("r").nameless().token("shop", "shop");
    assert_believed(&ingest, &nameless, "without a name").await?;

    let shop = claims("shop", "shop");
    for (name, algorithm) in [("r", "ES256"), ("e", "EdDSA"), ("d", "RS256")] {
        let head = json!({ "alg": algorithm, "kid": name });
        for issuer in all {
            let crossed = issuer.sign_as(&head, &shop);
            assert_wrong(&ingest, &crossed, "its algorithm is not that of the key").await?;
        }
    }
    // The key's name alone proves nothing.
    let stranger = Issuer::ec("e");
    let forged = stranger.sign(&shop);
    assert_wrong(&ingest, &forged, "its signature is wrong").await?;
    // Nor does a key that a token brings along.
    let mut head = stranger.head();
    head["jwk"] = stranger.jwk();
    head["jku"] = json!("https://localhost/jwks.json");
    let forged = stranger.sign_as(&head, &shop);
    assert_wrong(&ingest, &forged, "its signature is wrong").await?;
    head["kid"] = json!("another");
    let forged = stranger.sign_as(&head, &shop);
    assert_wrong(&ingest, &forged, "its key is not known").await?;
    Ok(())
}

#[tokio::test]
async fn a_public_key_is_no_secret_and_no_algorithm_is_no_signature() -> anyhow::Result<()> {
    let place = place().await?;
    let rsa = Issuer::rsa("r");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, key_set(&[&rsa]))?;
    let ingest = ingest(&place)
        .set("AUTH_JWKS", file.display().to_string())
        .start()
        .await?;
    let shop = claims("shop", "shop");
    let jwk = rsa.jwk();
    let modulus = jwk["n"].as_str().unwrap_or_default();
    // What is known of the key, as the secret of an HMAC.
    for public in [
        modulus.to_owned(),
        jwk.to_string(),
        key_set(&[&rsa]),
        String::new(),
    ] {
        let confused = Issuer::secret(public.as_bytes());
        for head in [
            json!({ "alg": "HS256", "kid": "r" }),
            json!({ "alg": "HS256" }),
            json!({ "alg": "RS256", "kid": "r" }),
        ] {
            let answer = ask(&ingest, SHOP_ROUTE, &confused.sign_as(&head, &shop)).await?;
            assert_refused(&answer, 401, "unauthorized");
        }
    }
    for none in ["none", "None", "NONE", "nOnE", ""] {
        for kid in [json!("r"), json!(null)] {
            let unsigned = unsigned(&json!({ "alg": none, "kid": kid }), &shop);
            let signed = rsa.sign_as(&json!({ "alg": none, "kid": kid }), &shop);
            for token in [format!("{unsigned}."), unsigned, signed] {
                let answer = ask(&ingest, SHOP_ROUTE, &token).await?;
                assert_refused(&answer, 401, "unauthorized");
            }
        }
    }
    assert_believed(&ingest, &rsa.sign(&shop), "all the same").await
}

#[tokio::test]
async fn a_shared_secret_verifies_what_it_signed_and_nothing_else() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = checked(&place).start().await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    assert_believed(&ingest, &issuer.token("shop", "shop"), "HS256").await?;
    let shop = claims("shop", "shop");
    let named = issuer.sign_as(&json!({ "alg": "HS256", "kid": "any" }), &shop);
    assert_believed(&ingest, &named, "with a name").await?;
    let other = Issuer::secret(b"another secret of more than 32 bytes, too").sign(&shop);
    assert_wrong(&ingest, &other, "its signature is wrong").await?;
    for issuer in [Issuer::rsa("r"), Issuer::ec("e"), Issuer::ed("d")] {
        let algorithm = "its algorithm is not that of the key";
        assert_wrong(&ingest, &issuer.sign(&shop), algorithm).await?;
    }
    for algorithm in ["HS384", "HS512", "none"] {
        let token = issuer.sign_as(&json!({ "alg": algorithm }), &shop);
        let algorithm = "its algorithm is not that of the key";
        assert_wrong(&ingest, &token, algorithm).await?;
    }
    assert_eq!(refused(&ingest, "algorithm").await?, 6);
    assert_eq!(refused(&ingest, "signature").await?, 1);
    Ok(())
}
