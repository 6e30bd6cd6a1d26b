//! Bodies as they arrive: whole, piece by piece, or not to their end.

use std::{io, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::record::UnderWay;

pub(super) fn whole(bytes: Bytes) -> Body {
    Body::from(bytes)
}

/// The first half, and then a lost connection.
pub(super) fn half(bytes: &Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    Body::from_stream(stream::iter([Ok(half), Err(lost())]))
}

/// Each piece as it comes.
pub(super) fn stream(answer: reqwest::Response, under_way: UnderWay) -> Body {
    Body::from_stream(pieces(answer, under_way))
}

/// Each piece as it comes, in which orders that are reserved are `packaged`, which is as long.
pub(super) fn in_new_words(answer: reqwest::Response, under_way: UnderWay) -> Body {
    let pieces = pieces(answer, under_way).map(|piece| {
        let text = String::from_utf8(piece?.to_vec()).map_err(io::Error::other)?;
        Ok::<_, io::Error>(text.replace("\"reserved\"", "\"packaged\""))
    });
    Body::from_stream(pieces)
}

/// Each piece as it comes, and after some time a lost connection.
pub(super) fn cut_after(answer: reqwest::Response, time: Duration, under_way: UnderWay) -> Body {
    let end = Instant::now() + time;
    let pieces = Box::pin(pieces(answer, under_way));
    let cut = stream::unfold(Some(pieces), move |pieces| async move {
        let mut pieces = pieces?;
        match timeout_at(end, pieces.next()).await {
            Ok(piece) => Some((piece?, Some(pieces))),
            Err(_) => Some((Err(lost()), None)),
        }
    });
    Body::from_stream(cut)
}

fn pieces(
    answer: reqwest::Response,
    under_way: UnderWay,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold((answer, under_way), |(mut answer, under_way)| async {
        let piece = answer.chunk().await.map_err(io::Error::other).transpose()?;
        Some((piece, (answer, under_way)))
    })
}

fn lost() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
