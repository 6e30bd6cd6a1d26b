//! Answers: just enough of HTTP/1.1 to know an answer's end, its status, and one word of its body.

use anyhow::{Context, bail};
use memchr::memmem;
use uuid::Uuid;

/// More than any answer of the API has.
const HEADERS_MAX: usize = 32;

/// What an answer means to a buyer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 202 with the order's id; 201 from a shop that settles before it answers.
    Accepted(Uuid),
    /// 200 with the `status` of an order.
    Shown(String),
    /// Anything else, with the `code` of its body.
    Refused { status: u16, code: String },
}

/// The answer in `bytes`, and whether the connection may be used again; `None` until it is complete.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Option<(Answer, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) =
        head.parse(bytes).context("not an HTTP answer")?
    else {
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    let body_length: usize = header(&head, "content-length")
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("an answer {status} without content-length"))?;
    let keep_alive =
        !header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body = &bytes[head_length..];
    if body.len() < body_length {
        return Ok(None);
    }
    if body.len() > body_length {
        bail!("more than one answer to one request");
    }
    let answer = match status {
        201 | 202 => {
            let id = text_of(body, br#""order_id":""#)
                .with_context(|| format!("a {status} without order_id"))?;
            let id = id
                .parse()
                .with_context(|| format!("not an order_id: {id}"))?;
            Answer::Accepted(id)
        }
        200 => Answer::Shown(word(body, br#""status":""#)),
        _ => Answer::Refused {
            status,
            code: word(body, br#""code":""#),
        },
    };
    Ok(Some((answer, keep_alive)))
}

fn header<'a>(head: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a str> {
    let header = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

/// The text between `opening` and the next quote.
fn text_of<'a>(body: &'a [u8], opening: &[u8]) -> Option<&'a str> {
    let start = memmem::find(body, opening)? + opening.len();
    let length = memchr::memchr(b'"', &body[start..])?;
    std::str::from_utf8(&body[start..start + length]).ok()
}

/// The same; empty where there is none.
fn word(body: &[u8], opening: &[u8]) -> String {
    text_of(body, opening).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn accepted() -> Vec<u8> {
        let body = format!(r#"{{"order_id":"{ID}","status":"queued"}}"#);
        format!(
            "HTTP/1.1 202 Accepted\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn an_answer_is_read_once_it_is_complete() -> anyhow::Result<()> {
        let answer = accepted();
        for end in 0..answer.len() {
            assert_eq!(read(&answer[..end])?, None, "after {end} bytes");
        }
        assert_eq!(read(&answer)?, Some((Answer::Accepted(ID), true)));
        Ok(())
    }

    #[test]
    fn a_201_accepts_as_a_202_does() -> anyhow::Result<()> {
        let answer = String::from_utf8(accepted())?.replace("202 Accepted", "201 Created");
        assert_eq!(read(answer.as_bytes())?, Some((Answer::Accepted(ID), true)));
        Ok(())
    }

    #[test]
    fn a_refusal_has_its_code() -> anyhow::Result<()> {
        let answer = b"HTTP/1.1 409 Conflict\r\nconnection: close\r\ncontent-length: 19\r\n\r\n{\"code\":\"sold_out\"}";
        assert_eq!(
            read(answer)?,
            Some((
                Answer::Refused {
                    status: 409,
                    code: "sold_out".to_owned()
                },
                false
            ))
        );
        Ok(())
    }

    #[test]
    fn an_order_is_shown_with_its_status() -> anyhow::Result<()> {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{\"status\":\"confirmed\"}";
        assert_eq!(
            read(answer)?,
            Some((Answer::Shown("confirmed".to_owned()), true))
        );
        Ok(())
    }

    #[test]
    fn what_breaks_the_protocol_is_an_error() {
        assert!(read(b"220 smtp.example.org\r\n\r\n").is_err());
        assert!(read(&[accepted(), accepted()].concat()).is_err());
        assert!(read(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}").is_err());
    }
}
