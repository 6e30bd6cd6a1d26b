//! Costs: processor time and memory, by process.

use std::time::Duration;

use hotrow_tests::{Place, Process, meter};

use crate::report::figures::{Figure, Round};

/// The processor time that everybody has used by some moment.
pub(crate) struct Costs {
    ingest: Option<Duration>,
    worker: Option<Duration>,
    broker: Option<Duration>,
    database: Option<Duration>,
}

/// The processes that costs are counted of, besides the two servers.
#[derive(Clone, Copy)]
pub(crate) struct Payers<'a> {
    /// Where the servers are.
    pub(crate) place: &'a Place,
    /// The process that answers HTTP: an ingest process, or a rival.
    pub(crate) ingest: Option<&'a Process>,
    /// The worker.
    pub(crate) worker: Option<&'a Process>,
}

impl Payers<'_> {
    /// What was used by now. Servers that somebody else runs are not looked at.
    pub(crate) fn costs(&self) -> anyhow::Result<Costs> {
        let servers = self.place.servers();
        let process = |process: Option<&Process>| process.map(Process::id);
        let time = |id: Option<u32>| id.map(meter::processor_time).transpose();
        Ok(Costs {
            ingest: time(process(self.ingest))?,
            worker: time(process(self.worker))?,
            broker: time(servers.rabbitmq.process_id()?)?,
            database: time(servers.postgres.process_id()?)?,
        })
    }

    /// Adds to a round what was used since `before`, for each thousand of `count`, and the most
    /// memory.
    pub(crate) fn add(&self, round: Round, before: &Costs, count: usize) -> anyhow::Result<Round> {
        let now = self.costs()?;
        let times = [
            (Figure::CpuIngest, now.ingest, before.ingest),
            (Figure::CpuWorker, now.worker, before.worker),
            (Figure::CpuBroker, now.broker, before.broker),
            (Figure::CpuDatabase, now.database, before.database),
        ];
        let memories = [
            (Figure::MemoryIngestMb, self.ingest),
            (Figure::MemoryWorkerMb, self.worker),
        ];
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let thousands = count.max(1) as f64 / 1_000.0;
        let mut round = round;
        for (figure, now, before) in times {
            if let (Some(now), Some(before)) = (now, before) {
                round = round.with(figure, now.saturating_sub(before).as_secs_f64() / thousands);
            }
        }
        for (figure, process) in memories {
            if let Some(process) = process {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let megabytes = meter::peak_memory(process.id())? as f64 / 1e6;
                round = round.with(figure, megabytes);
            }
        }
        Ok(round)
    }
}
