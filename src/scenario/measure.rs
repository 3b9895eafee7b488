//! Sends a cell's requests and stores what comes back, as it comes.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    liveness::{EndedRequest, Hang, Liveness},
    requests::{CellRequests, PlannedRequest},
};
use benchd_core::record::{ClientLag, LaneId, Outcome, Phase, Redactor, RequestRecord, StreamShape};
use benchd_journal::{DiskError, PassTimes, RecordFile};
use benchd_load::{
    Batch, LoadEngine, LoadError,
    client::{Answer, Target},
};
use benchd_plan::{Arrival, Cell};

/// How often progress is told and the server is looked at for a hang.
const TICK: Duration = Duration::from_millis(250);

/// A cell ready to be measured.
#[derive(Debug)]
pub(crate) struct CellRun<'a> {
    pub(crate) lane: &'a LaneId,
    /// Attempt of the lane, 1 on.
    pub(crate) lane_attempt: u32,
    pub(crate) cell: &'a Cell,
    /// Attempt of the cell, 1 on.
    pub(crate) attempt: u32,
    pub(crate) requests: &'a CellRequests,
    pub(crate) target: Target,
    /// What a whole answer shows.
    pub(crate) shape: StreamShape,
    /// Names of the reasoning field.
    pub(crate) reasoning_fields: &'static [&'static str],
    pub(crate) timeout: Duration,
    /// Seed of the arrival process.
    pub(crate) seed: u64,
    pub(crate) engine: &'a LoadEngine,
    /// Takes secrets out of what a server says.
    pub(crate) redactor: &'a Redactor,
}

/// How far a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellProgress {
    /// Requests that are over, warm-up included.
    pub(crate) stored: u64,
    /// Counted requests that are over.
    pub(crate) done: u64,
    /// Counted requests in all.
    pub(crate) total: u64,
    /// Failed ones among those that are over.
    pub(crate) failed: u64,
    /// Whether the warm-up is still going on.
    pub(crate) warming_up: bool,
}

/// What a measured cell came to: the parts of its end event that the load knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CellMeasured {
    /// Lines stored, warm-up included.
    pub(crate) records: u64,
    /// Counted requests.
    pub(crate) requests: u64,
    /// Failed ones among them.
    pub(crate) failed: u64,
    pub(crate) passes: Vec<PassTimes>,
    /// The client's own lag: of the worst pass; probes, CPU time and events of all.
    pub(crate) client: ClientLag,
    /// Open loop only: requests that the cap on requests in flight held back.
    pub(crate) capped: u64,
    /// Requests of the last pass timed out, and none of it showed that the server lives.
    pub(crate) doubtful: bool,
    /// What broken requests, warm-up included, leave open.
    pub(crate) broken: Option<Broken>,
}

/// Requests broke as they do when a server dies: no connection, an answer that broke off or told of an error in mid-stream,
/// a status from 500 on. A server that lives may do all of that too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// When the last of them was over.
    pub(crate) at: Instant,
    /// When the last whole answer after it was over; `None` where there was none.
    pub(crate) answered: Option<Instant>,
}

/// Whether a request broke as it does when its server dies.
fn is_broken(record: &RequestRecord) -> bool {
    match record.outcome {
        Outcome::Connect | Outcome::Truncated | Outcome::StreamError => true,
        Outcome::HttpStatus => record.status.is_some_and(|status| status >= 500),
        Outcome::Ok | Outcome::Timeout | Outcome::Malformed | Outcome::Cancelled => false,
    }
}

/// Why a cell was stopped from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StopCause {
    Interrupted,
    /// The server's process ended, or one of its processes did and requests broke.
    ServerDied(String),
    /// The device is gone, or memory can't be seen any more.
    GpuLost(String),
    /// benchd can't store results any more.
    Disk(String),
}

/// Why a cell has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CellError {
    #[error("{}", stop_text(.0))]
    Stopped(StopCause),
    /// The server keeps its connections and no request gets anywhere.
    #[error("{}", hung_text(*.hang, *.in_flight))]
    Hung { hang: Hang, in_flight: u64 },
    /// A record could not be stored.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The load could not be run.
    #[error(transparent)]
    Load(#[from] LoadError),
}

fn hung_text(hang: Hang, in_flight: u64) -> String {
    match hang {
        Hang::Silent(time) => format!(
            "the server sent nothing for {} s with {in_flight} requests waiting",
            time.as_secs()
        ),
        Hang::Lifeless(time) => format!(
            "the server began to answer and went on with nothing for {} s: all requests timed out, {in_flight} wait",
            time.as_secs()
        ),
    }
}

fn stop_text(cause: &StopCause) -> String {
    match cause {
        StopCause::Interrupted => "interrupted".to_owned(),
        StopCause::ServerDied(how) => format!("the server died while the cell was measured: {how}"),
        StopCause::GpuLost(why) => format!("the GPU was lost while the cell was measured: {why}"),
        StopCause::Disk(why) => why.clone(),
    }
}

/// Resolves with the reason, and not before.
pub(crate) type Reason<'a> = Pin<Box<dyn Future<Output = StopCause> + Send + 'a>>;

/// What stops a cell from outside.
pub(crate) struct Stop<'a> {
    pub(crate) at_once: Reason<'a>,
    /// What counts only where requests have broken: a process of the server that ended may have been a helper.
    pub(crate) once_broken: Reason<'a>,
}

impl CellRun<'_> {
    /// Sends the warm-up, as many at a time as the cell will. Failures in it are stored and decide nothing: a
    /// server that can't answer shows it in what is counted.
    ///
    /// # Errors
    /// See [`CellError`].
    pub(crate) async fn warm_up(
        &self,
        records: &mut RecordFile,
        stop: &mut Stop<'_>,
        show: &dyn Fn(CellProgress),
        so_far: &mut CellMeasured,
    ) -> Result<(), CellError> {
        if self.requests.warmup.is_empty() {
            return Ok(());
        }
        // The warm-up is a closed loop in every cell: it has no rate to keep.
        self.batch(
            0,
            Phase::Warmup,
            &self.requests.warmup,
            Arrival::Closed,
            records,
            stop,
            show,
            so_far,
        )
        .await?;
        Ok(())
    }

    /// Sends one pass of what counts; the first is 1.
    ///
    /// # Errors
    /// See [`CellError`]. What was stored by then stays in the file and is not counted.
    pub(crate) async fn pass(
        &self,
        pass: u32,
        requests: &[PlannedRequest],
        records: &mut RecordFile,
        stop: &mut Stop<'_>,
        show: &dyn Fn(CellProgress),
        so_far: &mut CellMeasured,
    ) -> Result<(), CellError> {
        let report = self
            .batch(
                pass,
                Phase::Measured,
                requests,
                self.cell.arrival,
                records,
                stop,
                show,
                so_far,
            )
            .await?;
        so_far.passes.push(report);
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "private; the two callers above differ in half of them"
    )]
    async fn batch(
        &self,
        pass: u32,
        phase: Phase,
        requests: &[PlannedRequest],
        arrival: Arrival,
        records: &mut RecordFile,
        stop: &mut Stop<'_>,
        show: &dyn Fn(CellProgress),
        so_far: &mut CellMeasured,
    ) -> Result<PassTimes, CellError> {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let mut handle = self.engine.run(
            Batch {
                target: self.target.clone(),
                bodies: requests.iter().map(|request| request.body.clone()).collect(),
                concurrency: self.cell.concurrency,
                arrival,
                seed: self.seed.wrapping_add(u64::from(pass)),
                timeout: self.timeout,
                shape: self.shape,
                reasoning_fields: self.reasoning_fields,
            },
            tx,
        )?;
        let progress = handle.progress();
        let mut liveness = Liveness::new(self.timeout, Instant::now());
        let mut tick = tokio::time::interval(TICK);
        let mut stopped = None;
        let store = |answer: Answer,
                     records: &mut RecordFile,
                     liveness: &mut Liveness,
                     so_far: &mut CellMeasured|
         -> Result<(), DiskError> {
            let record = self.record(pass, phase, requests, answer);
            let over = EndedRequest {
                outcome: record.outcome,
                last_token: record.last_token_us.map(Duration::from_micros),
            };
            liveness.over(over, Instant::now());
            if is_broken(&record) {
                so_far.broken = Some(Broken {
                    at: Instant::now(),
                    answered: None,
                });
            } else if record.is_ok()
                && let Some(broken) = &mut so_far.broken
            {
                broken.answered = Some(Instant::now());
            }
            records.append(&record)?;
            so_far.records += 1;
            if phase == Phase::Measured {
                so_far.requests += 1;
                so_far.failed += u64::from(!record.is_ok());
            }
            Ok(())
        };
        let report = loop {
            tokio::select! {
                Some(answer) = rx.recv() => {
                    if let Err(error) = store(answer, records, &mut liveness, so_far) {
                        handle.cancel();
                        return Err(error.into());
                    }
                }
                report = handle.wait() => break report?,
                why = stop.at_once.as_mut(), if stopped.is_none() => {
                    handle.cancel();
                    stopped = Some(CellError::Stopped(why));
                }
                why = stop.once_broken.as_mut(), if stopped.is_none() && so_far.broken.is_some() => {
                    handle.cancel();
                    stopped = Some(CellError::Stopped(why));
                }
                _ = tick.tick() => {
                    show(self.progress(phase, so_far));
                    // What found no connection is done and was never sent.
                    let in_flight = progress.sent().saturating_sub(progress.done());
                    if stopped.is_none()
                        && let Some(hang) = liveness.look(progress.events(), in_flight, Instant::now())
                    {
                        handle.cancel();
                        stopped = Some(CellError::Hung { hang, in_flight });
                    }
                }
            }
        };
        // Whatever the batch's end, its last answers are in the channel by now.
        while let Ok(answer) = rx.try_recv() {
            store(answer, records, &mut liveness, so_far)?;
        }
        show(self.progress(phase, so_far));
        if let Some(error) = stopped {
            return Err(error);
        }
        if phase == Phase::Measured {
            so_far.client = worst(&so_far.client, &report.lag);
            so_far.capped += report.capped;
            so_far.doubtful = liveness.doubtful();
        }
        Ok(PassTimes {
            pass,
            started_unix_us: report.started_unix_us,
            duration_us: report.duration_us,
        })
    }

    fn progress(&self, phase: Phase, so_far: &CellMeasured) -> CellProgress {
        CellProgress {
            stored: so_far.records,
            done: so_far.requests,
            total: self.requests.measured() as u64,
            failed: so_far.failed,
            warming_up: phase == Phase::Warmup,
        }
    }

    /// The record of a request, with what the load does not know of it.
    fn record(&self, pass: u32, phase: Phase, requests: &[PlannedRequest], answer: Answer) -> RequestRecord {
        let mut record = answer.record;
        for text in [&mut record.text, &mut record.reasoning] {
            self.redactor.clean(text);
        }
        if let Some(error) = &mut record.error {
            self.redactor.clean(error);
        }
        let prompt_id = requests
            .get(record.index as usize)
            .map(|request| request.prompt_id.clone())
            .unwrap_or_default();
        RequestRecord {
            round: self.lane.round,
            scenario: self.cell.scenario.clone(),
            cell: self.cell.id.clone(),
            attempt: self.attempt,
            lane_attempt: self.lane_attempt,
            pass,
            phase,
            prompt_id,
            ..record
        }
    }
}

fn worst(a: &ClientLag, b: &ClientLag) -> ClientLag {
    ClientLag {
        probes: a.probes + b.probes,
        p50_us: a.p50_us.max(b.p50_us),
        p99_us: a.p99_us.max(b.p99_us),
        max_us: a.max_us.max(b.max_us),
        cpu_us: a.cpu_us + b.cpu_us,
        events: a.events + b.events,
    }
}
