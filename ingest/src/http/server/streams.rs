//! Threads for streams, so that those who buy do not wait for those who listen.
//!
//! Thousands of streams are written to in the same moment. On the threads of requests, a purchase would wait behind all
//! of them. So a connection whose answer is a stream moves to other threads, and comes back with its next request.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The threads of streams: as many as a process has for requests. Dropped, they end, with whatever runs on them.
pub(crate) struct StreamThreads(Option<Runtime>);

impl StreamThreads {
    /// Nothing runs on them yet.
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("hotrow-streams")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Starts tasks on them.
    #[must_use]
    pub(crate) fn handle(&self) -> &Handle {
        let Self(Some(runtime)) = self else {
            unreachable!("it is taken when this is dropped")
        };
        runtime.handle()
    }
}

impl Drop for StreamThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // To drop it in a task would panic, because that waits for the threads.
            runtime.shutdown_background();
        }
    }
}

/// Whether the answer on a connection is a stream just now. Each request carries that of its connection.
#[derive(Clone, Default)]
pub(crate) struct Streaming(Arc<State>);

#[derive(Default)]
struct State {
    goes_on: AtomicBool,
    /// Whether the connection is on the threads of streams: a moment later than it is to be.
    is_away: AtomicBool,
}

impl Streaming {
    /// Notes that the answer is a stream.
    pub(crate) fn begin(&self) {
        self.0.goes_on.store(true, Ordering::Relaxed);
    }

    /// Notes that another request has come, and waits until its connection is back. To be awaited by the connection
    /// alone, which is polled when it has moved: nothing else wakes it.
    pub(super) async fn end(&self) {
        self.0.goes_on.store(false, Ordering::Relaxed);
        poll_fn(|_| {
            if self.0.is_away.load(Ordering::Relaxed) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn goes_on(&self) -> bool {
        self.0.goes_on.load(Ordering::Relaxed)
    }
}

/// Runs a connection to its end: on these threads while its answer is a stream, and otherwise where this is called.
pub(super) async fn run<C>(mut connection: Pin<Box<C>>, streaming: Streaming, threads: &Handle)
where
    C: Future<Output = ()> + Send + 'static,
{
    while let Some(begins) = run_while(false, connection, streaming.clone()).await {
        let stream = threads.spawn(run_while(true, begins, streaming.clone()));
        let Ok(Some(ended)) = AbortOnDropHandle::new(stream).await else {
            return;
        };
        connection = ended;
    }
}

/// Runs a connection while its answer is a stream, or while it is none. Returns it if it has more to do then.
async fn run_while<C: Future<Output = ()>>(
    is_streaming: bool,
    mut connection: Pin<Box<C>>,
    streaming: Streaming,
) -> Option<Pin<Box<C>>> {
    streaming.0.is_away.store(is_streaming, Ordering::Relaxed);
    let has_ended = poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            Poll::Ready(true)
        } else if streaming.goes_on() == is_streaming {
            Poll::Pending
        } else {
            Poll::Ready(false)
        }
    })
    .await;
    (!has_ended).then_some(connection)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync, thread};

    use tokio::{sync::mpsc, task::yield_now};

    use super::*;

    fn says_where(to: &sync::mpsc::Sender<bool>) {
        let name = thread::current().name().map(str::to_owned);
        let is_theirs = name.is_some_and(|name| name == "hotrow-streams");
        to.send(is_theirs).expect("the test listens");
    }

    #[tokio::test]
    async fn a_connection_is_on_the_threads_of_streams_while_its_answer_is_one() {
        let threads = StreamThreads::start().expect("threads");
        let (streaming, (says, said)) = (Streaming::default(), sync::mpsc::channel());
        let of_connection = streaming.clone();
        let connection = async move {
            for _ in 0..2 {
                says_where(&says);
                of_connection.begin();
                yield_now().await;
                says_where(&says);
                yield_now().await;
                says_where(&says);
                of_connection.end().await;
            }
            says_where(&says);
        };
        run(Box::pin(connection), streaming, threads.handle()).await;
        let theirs: Vec<_> = said.iter().collect();
        assert_eq!(theirs, [false, true, true, false, true, true, false]);
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_task_of_its_connection() {
        let threads = StreamThreads::start().expect("threads");
        let streaming = Streaming::default();
        let (begun, mut has_begun) = mpsc::channel(1);
        let of_connection = streaming.clone();
        let connection = async move {
            of_connection.begin();
            yield_now().await;
            begun.send(()).await.expect("the test listens");
            pending::<()>().await;
            drop(begun);
        };
        let handle = threads.handle().clone();
        let task = tokio::spawn(async move {
            run(Box::pin(connection), streaming, &handle).await;
        });
        has_begun.recv().await.expect("it begins");
        task.abort();
        assert_eq!(has_begun.recv().await, None, "the connection is gone");
    }
}
