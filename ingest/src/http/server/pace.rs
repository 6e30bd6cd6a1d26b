//! The pace of a client: how long it may take to send the head of a request, and to read an answer.
//!
//! hyper has one time limit for heads, which runs from the moment it is ready to read one, so it
//! cannot tell an idle connection from half a head; and it has none for writing. Both are added
//! here: [`HeadClock`] is the timer that hyper asks while it waits for a head, and [`Paced`] is the
//! stream that tells the clock when a head begins and gives up on a client that does not read.
//!
//! Until a slow client's time is up, its bytes are kept. [`Kept`] bounds them for all connections
//! together: beyond it, a slow client is ended at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// How long a connection may be idle: longer than balancers keep theirs open between requests (60 s
/// is common), so that none is closed at the moment it is used again.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// How long a head may take from its first byte. Bytes that came together with the request before
/// it do not start the clock: hyper has read them already, so such a head begins with its next byte.
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may read nothing of an answer that waits for it.
pub(super) const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// The most bytes of unfinished heads of all connections.
const HEADS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most bytes of answers that clients do not read, of all connections.
const ANSWERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What slow clients cost, and how many were ended for it.
#[derive(Clone)]
pub(super) struct SlowClients {
    heads: Arc<Kept>,
    answers: Arc<Kept>,
}

/// Bytes that are kept for slow clients of one kind.
struct Kept {
    bytes: AtomicUsize,
    max: usize,
    /// The connections that were ended, for their time or for their bytes.
    ended: Counter,
}

/// One connection's part of what is kept.
struct Share {
    kept: Arc<Kept>,
    bytes: usize,
}

impl SlowClients {
    /// Counts the ends of connections with these.
    pub(super) fn new(slow_head: Counter, slow_reader: Counter) -> Self {
        let kept = |max, ended| {
            Arc::new(Kept {
                bytes: AtomicUsize::new(0),
                max,
                ended,
            })
        };
        Self {
            heads: kept(HEADS_BYTES_MAX, slow_head),
            answers: kept(ANSWERS_BYTES_MAX, slow_reader),
        }
    }
}

impl Share {
    fn none(kept: &Arc<Kept>) -> Self {
        Self {
            kept: Arc::clone(kept),
            bytes: 0,
        }
    }

    /// Changes the part, and returns whether that is still within the bound.
    fn set(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let kept = self.kept.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let less = self.bytes.saturating_sub(bytes);
        self.kept.bytes.fetch_sub(less, Ordering::Relaxed);
        self.bytes = bytes;
        more == 0 || kept <= self.kept.max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The time limit of one connection's heads.
pub(super) struct HeadClock(Mutex<Waiting>);

struct Waiting {
    head: Head,
    /// One timer for the life of the connection. It is moved only when it is due or too late, so
    /// requests that follow each other leave it alone.
    timer: Pin<Box<Sleep>>,
    share: Share,
}

#[derive(Clone, Copy)]
enum Head {
    /// A request is being answered.
    NotAwaited,
    /// Nothing of the next head has come. The connection is idle until then.
    Awaited { until: Instant },
    /// Part of it has.
    Begun { until: Instant, bytes: usize },
}

impl HeadClock {
    pub(super) fn new(slow: &SlowClients) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiting {
            head: Head::NotAwaited,
            timer: Box::pin(sleep_until(Instant::now() + IDLE_TIME_MAX)),
            share: Share::none(&slow.heads),
        })))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client has sent so much.
    fn bytes_came(&self, came: usize) {
        match &mut self.waiting().head {
            Head::NotAwaited => {}
            head @ Head::Awaited { .. } => {
                *head = Head::Begun {
                    until: Instant::now() + HEAD_TIME_MAX,
                    bytes: came,
                };
            }
            Head::Begun { bytes, .. } => *bytes += came,
        }
    }
}

/// Gives a connection's [`HeadClock`] to hyper, which asks a timer for nothing else.
pub(super) struct HeadTimer(pub(super) Arc<HeadClock>);

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until((Instant::now() + duration).into())
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let until = deadline.into();
        self.0.waiting().head = Head::Awaited { until };
        Box::pin(HeadWait(Arc::clone(&self.0)))
    }
}

/// One wait of hyper for a head: made when it is ready to read one, dropped when the head is whole.
struct HeadWait(Arc<HeadClock>);

impl hyper::rt::Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.0.waiting();
        let Waiting { head, timer, share } = &mut *waiting;
        let (until, bytes) = match *head {
            Head::NotAwaited => return Poll::Pending,
            Head::Awaited { until } => (until, 0),
            Head::Begun { until, bytes } => (until, bytes),
        };
        if share.set(bytes) {
            if until < timer.deadline() {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() < until {
                // It was set for an earlier head.
                timer.as_mut().reset(until);
                ready!(timer.as_mut().poll(cx));
            }
        }
        if bytes > 0 {
            share.kept.ended.increment(1);
        }
        Poll::Ready(())
    }
}

impl Drop for HeadWait {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.head = Head::NotAwaited;
        waiting.share.set(0);
    }
}

/// A client's stream.
pub(super) struct Paced {
    stream: TcpStream,
    clock: Arc<HeadClock>,
    answers: Arc<Kept>,
    /// Bytes of what is being written, from its beginning: none of it is free before the end.
    answer: usize,
    stall: Option<Stall>,
}

/// A write that finds no room.
struct Stall {
    timer: Pin<Box<Sleep>>,
    share: Share,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, clock: Arc<HeadClock>, slow: &SlowClients) -> Self {
        Self {
            stream,
            clock,
            answers: Arc::clone(&slow.answers),
            answer: 0,
            stall: None,
        }
    }

    /// Turns a write of so many bytes that finds no room, for too long or with too much kept
    /// already, into an error, which ends the connection.
    fn bound_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.answer = self.answer.max(bytes);
        if let Poll::Ready(written) = written {
            self.stall = None;
            if matches!(written, Ok(written) if written == bytes) {
                self.answer = 0;
            }
            return Poll::Ready(written);
        }
        let stall = self.stall.get_or_insert_with(|| Stall {
            timer: Box::pin(sleep(WRITE_TIME_MAX)),
            share: Share::none(&self.answers),
        });
        if stall.share.set(self.answer) {
            ready!(stall.timer.as_mut().poll(cx));
        }
        self.answers.ended.increment(1);
        // What the client has not read would stay in the kernel for minutes after a usual close.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = buffer.filled().len() - before;
        if came > 0 {
            self.clock.bytes_came(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bound_write(cx, bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.bound_write(cx, bytes, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Neither waits for the client: a socket has nothing to flush, and a shutdown only says so.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
