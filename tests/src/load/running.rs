//! A load under way: its threads, and how far it is.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Context;
use tokio::{
    runtime,
    sync::oneshot,
    task::{JoinSet, LocalSet},
};

use super::{
    Load,
    buyer::{Buyer, Templates},
    limits,
    report::Report,
    shared::Shared,
};

/// A load under way. Dropped, it stops.
pub struct Running {
    shared: Arc<Shared>,
    tallies: Vec<oneshot::Receiver<anyhow::Result<Report>>>,
}

/// How far a load is; for a display, so the numbers may be of slightly different moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Orders with a 202.
    pub accepted: u64,
    /// Orders with another answer.
    pub refused: u64,
    /// Orders whose connection broke before they had an answer.
    pub unanswered: u64,
}

impl Running {
    /// Opens all connections, then lets the buyers loose. See [`Load::start`].
    pub(super) fn start(load: Load) -> anyhow::Result<Self> {
        limits::allow_open_files(load.connections)?;
        let connections = (0..load.connections)
            .map(|number| connect(load.targets[number % load.targets.len()]))
            .collect::<anyhow::Result<Vec<_>>>()?;

        let threads = load.threads.min(load.connections);
        // After the connections, which take their time.
        let shared = Arc::new(Shared::new(load));
        let mut parts: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
        for (number, connection) in connections.into_iter().enumerate() {
            parts[number % threads].push(connection);
        }
        let tallies = parts
            .into_iter()
            .map(|share| {
                let (tally, finished) = oneshot::channel();
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name("buyers".into())
                    .spawn(move || {
                        // Nobody receives it when the load was dropped.
                        let _ = tally.send(drive(share, &shared));
                    })?;
                Ok(finished)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { shared, tallies })
    }

    /// A view of the load that lasts longer than it.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }

    /// Sends no further orders; those under way are still answered.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answer.
    ///
    /// # Errors
    /// When a target cannot be reached any more.
    pub async fn finish(mut self) -> anyhow::Result<Report> {
        let mut sum = Report::new(self.shared.window)?;
        for tally in &mut self.tallies {
            sum.add(tally.await.context("a thread of the load panicked")??)?;
        }
        Ok(sum)
    }
}

/// A view of a load, for a display beside it.
#[derive(Clone)]
pub struct View(Arc<Shared>);

impl View {
    /// How far the load is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            accepted: count(&self.0.accepted),
            refused: count(&self.0.refused),
            unanswered: count(&self.0.unanswered),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn connect(target: SocketAddr) -> anyhow::Result<(SocketAddr, TcpStream)> {
    let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok((target, stream))
}

/// One thread's part: its connections on a runtime of its own, counted in one tally.
fn drive(part: Vec<(SocketAddr, TcpStream)>, shared: &Arc<Shared>) -> anyhow::Result<Report> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Rc::new(RefCell::new(Report::new(shared.window)?));
    let mut buyers = JoinSet::new();
    LocalSet::new().block_on(&runtime, async {
        let mut templates = BTreeMap::new();
        for (target, stream) in part {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let templates = templates
                .entry(target)
                .or_insert_with(|| Rc::new(Templates::new(shared, target)));
            let buyer = Buyer::new(
                target,
                stream,
                Rc::clone(templates),
                Arc::clone(shared),
                Rc::clone(&tally),
            );
            buyers.spawn_local(buyer.buy());
        }
        while let Some(finished) = buyers.join_next().await {
            finished??;
        }
        anyhow::Ok(())
    })?;
    let tally = Rc::into_inner(tally).context("a buyer is still there")?;
    Ok(tally.into_inner())
}
