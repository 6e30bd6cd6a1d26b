//! The files of the page, from the binary: compressed once, with an `ETag`, and under a policy that lets them talk to
//! the window and to Hotrow, and to nobody else.

use std::{borrow::Cow, collections::BTreeMap, io::Write, sync::Arc};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flate2::{Compression, write::GzEncoder};
use ring::digest::{SHA256, digest};
use rust_embed::RustEmbed;

use super::{Room, refusal::Refusal};

/// The page's own files, and what is vendored for it.
#[derive(RustEmbed)]
#[folder = "window/"]
struct Files;

/// The client of front ends, as any shop would serve it.
const CLIENT: &str = include_str!("../../../clients/javascript/hotrow.js");

/// What `/` is.
const INDEX: &str = "index.html";
/// Files in here have their version in their name, and never change.
const VERSIONED: &str = "vendor/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// All files by their path.
pub(super) struct Assets(BTreeMap<String, Asset>);

struct Asset {
    content_type: &'static str,
    cache_control: &'static str,
    digest: String,
    plain: Bytes,
    compressed: Bytes,
}

impl Assets {
    /// # Errors
    /// When a file is of a kind that has no content type here.
    pub(super) fn new() -> anyhow::Result<Self> {
        let client = ("hotrow.js".into(), Cow::Borrowed(CLIENT.as_bytes()));
        let files = Files::iter().filter_map(|path| {
            let file = Files::get(&path)?;
            Some((path, file.data))
        });
        let assets = files.chain([client]).map(|(path, content)| {
            let asset = Asset::new(&path, content)?;
            Ok((path.into_owned(), asset))
        });
        Ok(Self(assets.collect::<anyhow::Result<_>>()?))
    }
}

impl Asset {
    fn new(path: &str, content: Cow<'static, [u8]>) -> anyhow::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&content)?;
        let is_versioned = path.starts_with(VERSIONED);
        Ok(Self {
            content_type: content_type(path)?,
            cache_control: if is_versioned { FOR_EVER } else { ASK_AGAIN },
            digest: digest_of(&content),
            plain: Bytes::from(content.into_owned()),
            compressed: encoder.finish()?.into(),
        })
    }
}

fn content_type(path: &str) -> anyhow::Result<&'static str> {
    match path.rsplit('.').next() {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("txt" | "md") => Ok("text/plain; charset=utf-8"),
        _ => anyhow::bail!("{path} in the shop window is of no known kind"),
    }
}

fn digest_of(content: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&digest(&SHA256, content).as_ref()[..16])
}

/// The page's policy. Styles that a script sets by itself, as the charts do, are none of its business.
fn policy(room: &Room) -> String {
    let api = room.open.get().map(|open| format!(" {}", open.api()));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        api.unwrap_or_default()
    )
}

/// `GET` and `HEAD` of a file.
pub(super) async fn serve(
    State(room): State<Arc<Room>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if ![Method::GET, Method::HEAD].contains(&method) {
        return Ok((
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD")],
        )
            .into_response());
    }
    let path = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        path => path,
    };
    let asset = room.assets.0.get(path).ok_or(Refusal::NotFound)?;
    let policy = policy(&room);
    let compresses = accepts_gzip(&headers);
    // Each form has a tag of its own, and a page that was kept must not come with the policy of another run.
    let form = if compresses { "-gzip" } else { "" };
    let tag = format!(
        "\"{}-{}{form}\"",
        asset.digest,
        digest_of(policy.as_bytes())
    );
    let mut response = if has_it(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if compresses {
        (
            [(header::CONTENT_ENCODING, "gzip")],
            asset.compressed.clone(),
        )
            .into_response()
    } else {
        asset.plain.clone().into_response()
    };
    let about = response.headers_mut();
    about.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.content_type),
    );
    about.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(asset.cache_control),
    );
    about.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    for (name, value) in [
        (header::ETAG, tag),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        about.extend(HeaderValue::try_from(value).map(|value| (name, value)));
    }
    Ok(response)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && weight.trim().trim_end_matches(['.', '0']) != "q="
    })
}

/// Returns whether the caller has this form of the file. (RFC 9110, section 13.1.2: compared weakly.)
fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == tag
    })
}
