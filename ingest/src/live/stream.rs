//! One stream: what a page hears, from the state of everything it asked for to the end.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, Sleep, sleep_until},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    frame::{self, Frame},
    metrics::LiveMetrics,
};

/// How long a stream may be silent: less than the 15 s of the contract by what a busy process may need.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// How long a stream lasts, in milliseconds. Random, so that those which began together do not end together.
const LASTS_MS: std::ops::Range<u64> = 60_000..120_000;
/// After how long a client comes back to a stream that has ended, in milliseconds.
const RETRY_MS: std::ops::Range<u64> = 100..1_000;
/// The same when the process stops: its clients go to the others, and not all in the same second.
const RETRY_ELSEWHERE_MS: std::ops::Range<u64> = 500..5_000;

/// What a topic says to one stream.
pub(super) enum Said {
    State(Bytes),
    /// The stream ends, and its client begins anew: what it may hear is not known here any more.
    BeginAnew,
}

/// The topics of one stream.
pub(super) type Listening = SelectAll<BoxStream<'static, Said>>;

/// Adds a topic to those that a stream listens to. `permitted` judges each state: what the caller may not see ends
/// the stream.
pub(super) fn listen<S>(
    to: &mut Listening,
    topic: watch::Receiver<Option<S>>,
    permitted: impl Fn(&S) -> bool + Send + 'static,
) where
    S: AsRef<Frame> + Clone + Send + Sync + 'static,
{
    let states = WatchStream::new(topic).filter_map(move |state| {
        let said = state.map(|state| {
            if permitted(&state) {
                Said::State(state.as_ref().bytes.clone())
            } else {
                Said::BeginAnew
            }
        });
        std::future::ready(said)
    });
    // Only a topic that has ended has no more states.
    to.push(Box::pin(states.chain(stream::iter([Said::BeginAnew]))));
}

/// The stream of a page, until it ends by itself, with the process, or because its client went away.
struct Page {
    listening: Listening,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    until: Instant,
    /// When something was sent last.
    spoke: Instant,
    /// Is due when the stream ends or has been silent for too long, or earlier: it is moved only when it is due, so
    /// that what is sent costs no timer.
    timer: Pin<Box<Sleep>>,
    has_ended: bool,
    /// The stream's place among all of them.
    _place: OwnedSemaphorePermit,
    metrics: Arc<LiveMetrics>,
}

/// Begins the stream of a page.
pub(super) fn begin(
    listening: Listening,
    place: OwnedSemaphorePermit,
    metrics: Arc<LiveMetrics>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    metrics.streams.increment(1);
    let now = Instant::now();
    Page {
        listening,
        stop: Box::pin(shutdown.cancelled_owned()),
        until: now + random(LASTS_MS),
        spoke: now,
        timer: Box::pin(sleep_until(now + SILENCE_MAX)),
        has_ended: false,
        _place: place,
        metrics,
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.metrics.streams.decrement(1);
    }
}

impl Stream for Page {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let (bytes, ends) = match ready!(self.poll_event(cx)) {
            Next::Said(Said::State(bytes)) => (bytes, false),
            Next::Silence => (frame::HEARTBEAT, false),
            Next::Said(Said::BeginAnew) | Next::Over => (frame::retry(random(RETRY_MS)), true),
            Next::Stop => (frame::retry(random(RETRY_ELSEWHERE_MS)), true),
        };
        self.spoke = Instant::now();
        self.has_ended = ends;
        Poll::Ready(Some(Ok(bytes)))
    }
}

/// What happens next on a stream.
enum Next {
    Said(Said),
    Silence,
    Over,
    Stop,
}

impl Page {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Next::Stop);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.timer.deadline();
            if due >= self.until {
                return Poll::Ready(Next::Over);
            }
            let silent_until = self.spoke + SILENCE_MAX;
            if due >= silent_until {
                return Poll::Ready(Next::Silence);
            }
            self.timer.as_mut().reset(silent_until.min(self.until));
        }
        match ready!(self.listening.poll_next_unpin(cx)) {
            Some(said) => Poll::Ready(Next::Said(said)),
            // It listens to nothing. Only the timer goes on.
            None => Poll::Pending,
        }
    }
}

fn random(range_ms: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rand::random_range(range_ms))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use metrics::{Counter, Gauge};
    use tokio::sync::Semaphore;

    use super::*;

    impl AsRef<Frame> for Frame {
        fn as_ref(&self) -> &Frame {
            self
        }
    }

    fn state(number: u32) -> Frame {
        Frame::new("stock", number.to_string().as_bytes())
    }

    /// A stream of one topic. The state 666 is not for this caller.
    fn stream_of(
        topic: watch::Receiver<Option<Frame>>,
        shutdown: &CancellationToken,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let mut listening = Listening::new();
        listen(&mut listening, topic, |frame: &Frame| {
            frame.data() != b"666"
        });
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let metrics = LiveMetrics {
            streams: Gauge::noop(),
            stock: Counter::noop(),
            orders: Counter::noop(),
        };
        let place = place.expect("room");
        begin(listening, place, Arc::new(metrics), shutdown.clone())
    }

    /// What is said now, without a wait.
    fn now(stream: &mut (impl Stream<Item = Result<Bytes, Infallible>> + Unpin)) -> Option<Bytes> {
        stream.next().now_or_never()?.map(|Ok(bytes)| bytes)
    }

    #[tokio::test]
    async fn whoever_reads_slowly_skips_the_states_between() {
        let (topic, listener) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let mut stream = Box::pin(stream_of(listener, &shutdown));
        assert_eq!(now(&mut stream), None, "nothing is known yet");
        for number in 0..1_000 {
            topic.send_replace(Some(state(number)));
        }
        let last = now(&mut stream).expect("a state");
        assert_eq!(last, "event: stock\ndata: 999\n\n");
        assert_eq!(now(&mut stream), None, "the others are gone");
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_time_of_the_next_one() {
        let over: [fn(watch::Sender<_>, &CancellationToken); 3] = [
            |_, shutdown| shutdown.cancel(),
            |topic, _| drop(topic),
            |topic, _| drop(topic.send_replace(Some(state(666)))),
        ];
        for over in over {
            let shutdown = CancellationToken::new();
            let (topic, listener) = watch::channel(Some(state(1)));
            let mut stream = Box::pin(stream_of(listener, &shutdown));
            now(&mut stream).expect("the state at the beginning");
            over(topic, &shutdown);
            let last = now(&mut stream).expect("an end");
            assert!(last.starts_with(b"retry: "), "{last:?}");
            assert_eq!(stream.next().now_or_never(), Some(None));
        }
    }
}
