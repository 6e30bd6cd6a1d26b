//! What stands on a stream: events in the format of `text/event-stream`
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::time::Duration;

use bytes::Bytes;

/// A comment, so that neither a proxy nor the client takes the stream for dead.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// One event, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    data_at: usize,
}

/// What follows an event's data.
const END: &[u8] = b"\n\n";

impl Frame {
    /// An event. `data` is one line, as JSON without line breaks is.
    pub(super) fn new(event: &str, data: &[u8]) -> Self {
        debug_assert!(!data.contains(&b'\n'), "data of several lines");
        let head = format!("event: {event}\ndata: ");
        Self {
            bytes: [head.as_bytes(), data, END].concat().into(),
            data_at: head.len(),
        }
    }

    /// The data that it was made of.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.data_at..self.bytes.len() - END.len()]
    }
}

/// Says after how long a client is to come back once the stream has ended.
pub(super) fn retry(after: Duration) -> Bytes {
    format!("retry: {}\n\n", after.as_millis()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_name_and_a_line_of_data() {
        let frame = Frame::new("stock", b"{}");
        assert_eq!(frame.bytes, "event: stock\ndata: {}\n\n");
        assert_eq!(frame.data(), b"{}");
        assert_eq!(retry(Duration::from_millis(1_500)), "retry: 1500\n\n");
    }
}
