//! Claims about hostile requests: whatever the bytes, the answer is a clear 4xx, nothing is queued,
//! and the process goes on.

use hotrow_tests::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, envelopes, ingest, one, place, post, put_up, send,
};

#[tokio::test]
async fn a_hostile_body_gets_a_clear_4xx_and_is_not_queued() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let order = |items: &str| format!(r#"{{"customer_id":"c-1","items":{items}}}"#);
    let quantity = |quantity: &str| order(&format!(r#"[{{"sku":"a","quantity":{quantity}}}]"#));
    let item = r#"[{"sku":"a","quantity":1}]"#;
    let (opened, closed) = ("[".repeat(8_000), "]".repeat(8_000));
    let mut with_zero_byte = one(CHAIR).into_bytes();
    with_zero_byte.push(0);

    let malformed: [Vec<u8>; 22] = [
        b"".into(),
        b" \r\n\t".into(),
        b"\xef\xbb\xbf{}".into(),
        b"\xff\xfe{\0}\0".into(),
        b"{\"customer_id\":\"\xff\",\"items\":[]}".into(),
        b"{\"customer_id\":\"\xed\xa0\x80\",\"items\":[]}".into(),
        b"customer_id=c-1".into(),
        b"<order/>".into(),
        b"{'customer_id':'c-1'}".into(),
        b"{\"customer_id\":\"c-1\",}".into(),
        with_zero_byte,
        one(CHAIR)[..30].into(),
        (one(CHAIR) + "x").into(),
        (one(CHAIR) + &one(CHAIR)).into(),
        quantity("NaN").into(),
        quantity("Infinity").into(),
        quantity("-Infinity").into(),
        quantity("0x10").into(),
        quantity("01").into(),
        quantity("+1").into(),
        opened.clone().into(),
        r#"{"a":"#.repeat(3_000).into(),
    ];
    for body in malformed {
        let text = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = post(&ingest, &[], body).await?;
        assert_eq!(answer.status, 400, "{text:?}: {answer:?}");
        assert_refused(&answer, 400, "malformed");
    }

    let invalid = [
        "null".to_owned(),
        "7".to_owned(),
        r#""order""#.to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        format!("{opened}{closed}"),
        order(&format!("{opened}{closed}")),
        format!(r#"{{"customer_id":"c-1","items":{item},"a":{opened}{closed}}}"#),
        format!(r#"{{"customer_id":"c-1","customer_id":"c-1","items":{item}}}"#),
        format!(r#"{{"customer_id":"c-1","items":{item},"items":{item}}}"#),
        order(r#"[{"sku":"a","sku":"a","quantity":1}]"#),
        order(r#"[{"sku":"a","quantity":1,"quantity":1}]"#),
        order(r#"[{"sku":"a\u0000","quantity":1}]"#),
        order(r#"[{"sku":["a"],"quantity":1}]"#),
        quantity("null"),
        quantity("1.0"),
        quantity("1e0"),
        quantity("-0.5"),
        quantity("1e300"),
        quantity("4294967297"),
        quantity("18446744073709551617"),
        // An object is asked for: its values in a row are not one.
        format!(r#"["c-1",{item}]"#),
        order(r#"[["a",1]]"#),
    ];
    for body in invalid {
        let text = body[..body.len().min(80)].to_owned();
        let answer = post(&ingest, &[], body).await?;
        assert_eq!(answer.status, 422, "{text:?}: {answer:?}");
        assert_refused(&answer, 422, "invalid");
    }

    // Not a number that JSON could not write, nor one that anything could hold.
    for body in [
        quantity("1e999"),
        quantity(&"9".repeat(1_000)),
        order(r#"[{"sku":"\ud800","quantity":1}]"#),
    ] {
        let answer = post(&ingest, &[], body).await?;
        assert!([400, 422].contains(&answer.status.as_u16()), "{answer:?}");
        let code = answer.code().unwrap_or_default();
        assert_refused(&answer, answer.status.as_u16(), &code);
    }

    let metrics = ingest.metrics().await?;
    assert_eq!(metrics.count("hotrow_orders_accepted_total", &[]), 0);
    let refused = |code| metrics.count("hotrow_orders_refused_total", &[("code", code)]);
    assert_eq!(refused("malformed") + refused("invalid"), 22 + 23 + 3);
    assert_eq!(envelopes(&place).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_explained_in_the_words_of_json() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let right = one(CHAIR);
    let with = |from: &str, to: &str| {
        assert!(right.contains(from));
        right.replace(from, to)
    };
    let object = "the body must be an object, and is";
    let explained: [(Vec<u8>, u16, &str); 14] = [
        (b"".into(), 400, "the body is empty"),
        (right[..30].into(), 400, "the body is cut off"),
        (format!("\u{feff}{right}").into(), 400, "byte order mark"),
        (b"\x1f\x8b\x08\0".into(), 400, "compressed with gzip"),
        (b"\xff\xfe{\0}\0".into(), 400, "is UTF-16"),
        (
            with("1}", "1,}").into(),
            400,
            "a comma stands before a closing bracket",
        ),
        (
            right.replace('"', "'").into(),
            400,
            "strings need double quotes",
        ),
        (with(":1}", ":NaN}").into(), 400, "NaN is not a JSON value"),
        (
            serde_json::to_vec(&right)?,
            422,
            "a JSON string that holds JSON: send the object itself",
        ),
        (
            format!("[{right}]").into(),
            422,
            &format!("{object} an array"),
        ),
        (b"null".into(), 422, &format!("{object} null")),
        (
            with(":1}", ":1.5}").into(),
            422,
            "items[0].quantity: must be a whole number",
        ),
        (
            with(":1}", ":\"1\"}").into(),
            422,
            "items[0].quantity: must be a number, and is a string: leave out the quotes",
        ),
        (
            with("}]", "}],\"items\":[]").into(),
            422,
            "items: is given twice",
        ),
    ];
    for (body, status, explanation) in explained {
        let text = String::from_utf8_lossy(&body).into_owned();
        let answer = post(&ingest, &[], body).await?;
        let code = if status == 400 {
            "malformed"
        } else {
            "invalid"
        };
        let refused = assert_refused(&answer, status, code);
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(explanation), "{text:?}: {detail:?}");
    }

    let compressed = post(&ingest, &[("content-encoding", b"gzip")], right).await?;
    let refused = assert_refused(&compressed, 415, "unsupported_media_type");
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("without Content-Encoding"), "{detail:?}");
    assert_eq!(compressed.header("accept-encoding"), Some("identity"));
    let plain = post(&ingest, &[("content-encoding", b"identity")], one(CHAIR)).await?;
    assert_accepted(&plain);
    assert_eq!(envelopes(&place).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_http_ends_its_connection_and_nothing_else() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 10).await?;
    let post = "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let endless = format!("GET /livez HTTP/1.1\r\n{}", "a: b\r\n".repeat(100_000));
    let nonsense = [
        "\0\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /livez HTTP/9.9\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1\r\nhost: x\r\nbad\0name: x\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        endless,
        format!("{post}content-length: -1\r\n\r\n{{}}"),
        format!("{post}content-length: 99999999999999999999\r\n\r\n{{}}"),
        format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
        format!("{post}transfer-encoding: chunked\r\n\r\nnothing\r\n"),
        format!("{post}transfer-encoding: nothing\r\n\r\n"),
    ];
    for request in nonsense {
        let start = request[..request.len().min(120)].to_owned();
        // The peer may have closed before all was sent: that is an answer, too; silence is none.
        let answer = match ingest.client()?.raw(request.as_bytes()).await {
            Err(error) if !error.is::<std::io::Error>() => panic!("{start:?}: {error:#}"),
            answer => answer.unwrap_or_default(),
        };
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 505"),
            "{start:?} was answered {answer:?}"
        );
    }
    // Half a head, half a body, a body that never comes: the client goes away, by a reset at that.
    let length = one(CHAIR).len();
    let halves = [
        "POST /v1/or".to_owned(),
        post.to_owned(),
        format!("{post}content-length: {length}\r\n\r\n"),
        format!(
            "{post}content-length: {length}\r\n\r\n{}",
            &one(CHAIR)[..20]
        ),
    ];
    for request in halves {
        let mut stream = TcpStream::connect(ingest.address()?).await?;
        stream.write_all(request.as_bytes()).await?;
        reset(stream)?;
    }
    // One that said how much it would send, and then sends no more.
    let mut half = TcpStream::connect(ingest.address()?).await?;
    let request = format!(
        "{post}content-length: {length}\r\n\r\n{}",
        &one(CHAIR)[..20]
    );
    half.write_all(request.as_bytes()).await?;
    half.shutdown().await?;
    let mut answer = Vec::new();
    timeout(SOON, half.read_to_end(&mut answer)).await??;

    assert_eq!(envelopes(&place).await?, 0);
    is_well(&ingest).await
}

/// Closes a connection without the usual good-bye.
fn reset(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_zero_linger()?;
    drop(stream);
    Ok(())
}

async fn is_well(ingest: &Process) -> anyhow::Result<()> {
    send(ingest, reqwest::Method::GET, "/livez", &[], "")
        .await?
        .expect(200)?;
    assert_accepted(&post(ingest, &[], one(CHAIR)).await?);
    assert_eq!(
        ingest
            .metrics()
            .await?
            .count("hotrow_orders_accepted_total", &[]),
        1
    );
    Ok(())
}
