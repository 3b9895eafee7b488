//! The run's loop: asks the decision what comes next, does it, until it says that this is the end. Then the
//! report, whatever the end.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;

use super::{
    Begun, Display, Failure, Halt, LaneView, Next, Remaining, RunOptions, RunView, Signals, Systemd, Tone,
    begin,
    lane::{self, Shared},
    lane_end::LaneEnd,
    logging, next, selfcheck, short_duration,
    telling::Telling,
};
use crate::notify;
use benchd_host::process;
use benchd_journal::{Event, LaneOutcome, RunEnded, RunOutcome, RunState, write_atomic};
use benchd_load::{LoadEngine, LoadOptions};
use benchd_plan::{self, Assumptions, Lane};
use benchd_prompts::Calibration;
use benchd_report;

/// Runs a plan to its end and returns benchd's exit code.
///
/// # Errors
/// Before the first lane only: the plan changed, the machine is not fit. Later failures are recorded, and the
/// exit code tells them.
pub async fn run(options: RunOptions, signals: &Signals, display: &Display) -> Result<u8, Failure> {
    process::become_subreaper().context("benchd can't adopt what servers leave behind")?;
    let systemd = display.systemd();
    let telling = Telling::new(&options, display);
    let mut begun = match systemd.heart().during(BEGIN_LIMIT, begin(&options)).await {
        Ok(begun) => begun,
        Err(failure) => {
            telling.could_not_begin(&failure).await;
            return Err(failure);
        }
    };
    display.in_run(begun.dir.id());
    systemd.ready();
    let ending = EndingSoon::watch(signals, display, stop_limit(&options));
    let _log = logging::to_file(&begun.dir.benchd_log(), &options.redactor)
        .context("benchd's log can't be opened")?;
    say(
        display,
        Tone::Plain,
        &format!(
            "run {}  results in {}",
            begun.dir.id(),
            begun.dir.root().display()
        ),
    );
    say(
        display,
        Tone::Plain,
        &format!("logs {}", begun.dir.logs().display()),
    );
    for note in &begun.notes {
        say(display, Tone::Warn, &format!("note  {note}"));
    }
    if options.selfcheck && begun.info.client.is_none() {
        selfcheck::run(&mut begun, &options.lanes, signals, display).await;
    }
    let engine = LoadEngine::start(LoadOptions::default()).context("the load thread can't be started")?;
    let calibrations = read_calibrations(&begun)?;
    let estimate = benchd_plan::estimate(&options.loaded.plan, &options.lanes, &Assumptions::default());
    let mut shared = Shared {
        plan: &options.loaded.plan,
        plan_path: &options.loaded.path,
        lanes: &options.lanes,
        run: &begun,
        engine: &engine,
        signals,
        display,
        calibrations,
        remaining: Remaining::new(estimate.total),
        estimate,
        secrets: &options.loaded.secrets,
        redactor: &options.redactor,
    };

    let mut halt = None;
    let (outcome, exit_code, reason) = loop {
        systemd.heart().beat();
        let view = view(&options, &begun, halt.take().or_else(|| halted(&begun, signals)));
        match next(&view) {
            Next::Lane { index, attempt } => {
                let lane = &options.lanes[index];
                display.at(&lane.id.to_string(), "");
                say(
                    display,
                    Tone::Plain,
                    &format!(
                        "lane {}  ({} of {}){}",
                        lane.id,
                        index + 1,
                        options.lanes.len(),
                        nth(attempt)
                    ),
                );
                let end = lane::run(&mut shared, lane, index, attempt).await;
                tell(display, lane, &end);
                if end.outcome == LaneOutcome::Failed
                    && end.halt.is_none()
                    && !tried_again(&options, &begun, lane)
                {
                    telling.lane_failed(&begun, lane, end.reason.as_deref().unwrap_or_default());
                }
                display.at("", "");
                halt = end.halt;
            }
            Next::End {
                outcome,
                exit_code,
                reason,
            } => break (outcome, exit_code, reason),
        }
    };
    ending.now();
    let told = reason.clone();
    let code = end(&options, &begun, display, outcome, exit_code, reason)?;
    let last = telling.ended(&begun, outcome, code, told.as_deref());
    systemd.heart().during(notify::SEND_LIMIT, last).await;
    Ok(code)
}

/// The longest that a start may take: clearing what a dead benchd left, and opening NVML.
const BEGIN_LIMIT: Duration = Duration::from_secs(120);

/// What a stop takes beside the plan's own limits: the kernel's time for a KILL, the report, a last message.
const STOP_MARGIN: Duration = Duration::from_secs(120);

/// The longest that the end of the run may take from now: one server's stop and release, and the rest.
fn stop_limit(options: &RunOptions) -> Duration {
    let frameworks = options.loaded.plan.frameworks.values();
    let server = frameworks.map(|f| f.stop_grace + f.release_timeout).max();
    server.unwrap_or_default() + STOP_MARGIN
}

/// Tells systemd that the run ends, at the first signal or at its own end.
struct EndingSoon {
    systemd: Systemd,
    limit: Duration,
    task: tokio::task::JoinHandle<()>,
}

impl EndingSoon {
    fn watch(signals: &Signals, display: &Display, limit: Duration) -> Self {
        let systemd = display.systemd().clone();
        let (clean, told) = (signals.clean().clone(), systemd.clone());
        let task = tokio::spawn(async move {
            clean.cancelled().await;
            told.stopping(limit);
        });
        Self { systemd, limit, task }
    }

    fn now(self) {
        self.systemd.stopping(self.limit);
    }
}

impl Drop for EndingSoon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tried_again(options: &RunOptions, begun: &Begun, lane: &Lane) -> bool {
    let retries = options
        .loaded
        .plan
        .frameworks
        .get(&lane.id.framework)
        .map_or(0, |f| f.retries);
    begun
        .keeper
        .state()
        .lanes
        .get(&lane.id)
        .is_some_and(|l| l.failures <= retries)
}

fn end(
    options: &RunOptions,
    begun: &Begun,
    display: &Display,
    outcome: RunOutcome,
    exit_code: u8,
    reason: Option<String>,
) -> Result<u8, Failure> {
    if let Some(reason) = &reason {
        say(display, Tone::Bad, &format!("stopped: {reason}"));
    }
    let mut exit_code = exit_code;
    let ended = Event::RunEnded(RunEnded {
        outcome,
        exit_code,
        reason,
    });
    if let Err(error) = begun.keeper.append(ended) {
        say(
            display,
            Tone::Bad,
            &format!("the end of the run could not be journalled: {error}"),
        );
        exit_code = exit_code.max(super::EXIT_MACHINE);
    }
    let mut info = begun.info.clone();
    info.state = match outcome {
        RunOutcome::Finished => RunState::Finished,
        RunOutcome::Interrupted => RunState::Interrupted,
        RunOutcome::Unsafe => RunState::Unsafe,
        RunOutcome::Aborted => RunState::Aborted,
    };
    info.updated_unix_us = begun.keeper.state().last_unix_us;
    // Of all that the run measured, also where this start was narrowed: it is what `benchd report` writes.
    let lanes = benchd_plan::lanes(&options.loaded.plan, &benchd_plan::Only::default());
    match benchd_report::write_all(&begun.dir, &options.loaded.plan, &lanes) {
        Ok(summary) => {
            display.close();
            let mut text = format!("\n{}\n", benchd_report::final_table(&summary));
            if !summary.verdicts.is_empty() {
                text += &format!("{}\n", benchd_report::sentences::verdict_lines(&summary.verdicts));
            }
            text += &format!("report {}\n", begun.dir.report_html().display());
            // The run is over and stored, whoever still listens.
            if let Err(error) = benchd_report::print(&text) {
                tracing::warn!("stdout: {error}");
            }
        }
        // What is measured is safe in the run's folder; the report can be written again from it.
        Err(error) => say(
            display,
            Tone::Bad,
            &format!(
                "the report could not be written: {error}\n  hint: `benchd report {}` tries again",
                begun.dir.id()
            ),
        ),
    }
    // Last: a run whose end is journalled and not written here died before its report, and is gone on with.
    if let Err(error) = info.write(&begun.dir.run_json()) {
        say(
            display,
            Tone::Bad,
            &format!("run.json could not be written: {error}"),
        );
    }
    say(
        display,
        Tone::Plain,
        &format!("took {}", short_duration(display.elapsed())),
    );
    Ok(exit_code)
}

/// A line for people, and for the log.
pub(super) fn say(display: &Display, tone: Tone, text: &str) {
    match tone {
        Tone::Plain | Tone::Good => tracing::info!("{text}"),
        Tone::Warn => tracing::warn!("{text}"),
        Tone::Bad => tracing::error!("{text}"),
    }
    display.line(tone, text);
}

fn nth(attempt: u32) -> String {
    if attempt > 1 {
        format!(", attempt {attempt}")
    } else {
        String::new()
    }
}

fn tell(display: &Display, lane: &Lane, end: &LaneEnd) {
    match end.outcome {
        LaneOutcome::Finished => say(display, Tone::Good, &format!("lane {}  finished", lane.id)),
        LaneOutcome::Interrupted => say(display, Tone::Warn, &format!("lane {}  interrupted", lane.id)),
        LaneOutcome::Failed => {
            let reason = end.reason.as_deref().unwrap_or("no reason given");
            say(
                display,
                Tone::Bad,
                &format!("lane {}  failed at {}: {reason}", lane.id, end.stage),
            );
            for line in &end.log_tail {
                display.line(Tone::Plain, &format!("  | {line}"));
            }
        }
    }
}

/// Why the run must end now, if it must.
fn halted(begun: &Begun, signals: &Signals) -> Option<Halt> {
    if let Some(why) = begun.keeper.failure() {
        return Some(Halt::Disk(why));
    }
    signals.first().map(Halt::Signal)
}

fn view(options: &RunOptions, begun: &Begun, halt: Option<Halt>) -> RunView {
    let state = begun.keeper.state();
    let lanes = options
        .lanes
        .iter()
        .map(|lane| {
            let known = state.lanes.get(&lane.id);
            let finished = |cell: &benchd_plan::Cell| state.finished(&lane.id, &cell.id);
            let open = lane.cells.iter().filter(|cell| finished(cell).is_none()).count();
            let retries = options
                .loaded
                .plan
                .frameworks
                .get(&lane.id.framework)
                .map_or(0, |framework| framework.retries);
            LaneView {
                id: lane.id.clone(),
                open_cells: u32::try_from(open).unwrap_or(u32::MAX),
                attempts: known.map_or(0, |l| l.attempts),
                failures: known.map_or(0, |l| l.failures),
                retries,
                last: known.and_then(|l| l.ended.as_ref()).map(|ended| ended.outcome),
                failed_requests: lane
                    .cells
                    .iter()
                    .filter_map(finished)
                    .any(|cell| cell.ended.failed > 0),
            }
        })
        .collect();
    RunView { lanes, halt }
}

/// The models' calibrations of an earlier start of this run: a resumed run sends the same texts.
fn read_calibrations(begun: &Begun) -> Result<HashMap<String, Calibration>, Failure> {
    let path = begun.dir.calibration_json();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("{} can't be read", path.display()))
                .into());
        }
    };
    let read: HashMap<String, Calibration> = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged: start a new run", path.display()))?;
    for calibration in read.values() {
        calibration
            .check_version()
            .map_err(|e| Failure::machine(anyhow::Error::from(e)))?;
    }
    Ok(read)
}

/// Stores the calibrations, whole or not at all.
pub(super) fn write_calibrations(
    begun: &Begun,
    calibrations: &HashMap<String, Calibration>,
) -> Result<(), benchd_journal::DiskError> {
    let path = begun.dir.calibration_json();
    let ordered: std::collections::BTreeMap<_, _> = calibrations.iter().collect();
    let text = serde_json::to_vec_pretty(&ordered)
        .map_err(|e| benchd_journal::DiskError::new("write", &path, e.into()))?;
    write_atomic(&path, &text)
}
