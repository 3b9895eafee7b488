//! The run's loop: asks the decision what comes next, does it, until it says that this is the end. Then the
//! report, whatever the end.

use std::time::Duration;

use super::{
    calibrations::Calibrations,
    decide::{EXIT_MACHINE, Halt, LaneView, Next, RunView, next},
    display::Display,
    failure::{Context as _, Failure},
    lane::LaneRunner,
    lines::Line,
    logging,
    remaining::Remaining,
    selfcheck,
    signals::Signals,
    start::{Purpose, RunOptions, StartedRun, begin},
    systemd::Systemd,
    webhook::Webhook,
};
use crate::notify;
use benchd_host::process;
use benchd_journal::{Event, LaneOutcome, RunEnded, RunOutcome, RunState};
use benchd_load::{LoadEngine, LoadOptions};
use benchd_plan::{Assumptions, Lane};

/// Runs a plan to its end and returns benchd's exit code.
///
/// # Errors
/// Before the first lane only: the plan changed, the machine is not fit. Later failures are recorded, and the
/// exit code tells them.
pub(crate) async fn run(options: RunOptions, signals: &Signals, display: &Display) -> Result<u8, Failure> {
    process::become_subreaper().context("benchd can't adopt what servers leave behind")?;
    let (systemd, watchdog) = (display.systemd(), display.watchdog());
    let webhook = Webhook::new(&options, display);
    let limit = BEGIN_LIMIT + options.loaded.plan.host.stranger_wait;
    let mut run = match watchdog.wait(limit, begin(&options, signals, display)).await {
        Ok(run) => run,
        Err(failure) => {
            webhook.could_not_begin(&failure).await;
            return Err(failure);
        }
    };
    display.in_run(run.dir.id());
    systemd.ready();
    let stop_notice = StopNotice::at_signal(signals, systemd, stop_limit(&options));
    let _log =
        logging::to_file(&run.dir.benchd_log(), &options.redactor).context("benchd's log can't be opened")?;
    display.say(&Line::Run(&run.dir));
    display.say(&Line::Logs(&run.dir));
    for note in &run.notes {
        display.say(&Line::Note(note));
    }
    if options.selfcheck && run.info.client.is_none() {
        selfcheck::run(&mut run, &options.lanes, signals, display).await;
    }
    let engine = LoadEngine::start(LoadOptions::default()).context("the load thread can't be started")?;
    let estimate = benchd_plan::estimate(
        &options.loaded.plan,
        &options.lanes,
        &Assumptions::default(),
        benchd_frameworks::pace,
    );
    let mut runner = LaneRunner {
        options: &options,
        run: &run,
        engine: &engine,
        signals,
        display,
        calibrations: Calibrations::read(run.dir.calibration_json())?,
        remaining: Remaining::new(estimate),
    };

    let mut halt = None;
    let (outcome, exit_code, reason) = loop {
        watchdog.ping();
        let view = view(&options, &run, halt.take().or_else(|| halted(&run, signals)));
        match next(&view) {
            Next::Lane { index, attempt } => {
                let lane = &options.lanes[index];
                display.at(&lane.id.to_string(), "");
                display.say(&Line::LaneStarted {
                    lane: &lane.id,
                    position: (index + 1, options.lanes.len()),
                    attempt,
                });
                let end = runner.run(index, attempt).await;
                display.say(&Line::LaneEnded(&lane.id, &end));
                if end.outcome == LaneOutcome::Failed {
                    display.quote(&end.log_tail);
                    if end.halt.is_none() && !tried_again(&options, &run, lane) {
                        webhook.lane_failed(&run, lane, end.reason.as_deref().unwrap_or_default());
                    }
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
    stop_notice.now();
    let told = reason.clone();
    let code = end(&options, &run, display, outcome, exit_code, reason);
    let last = webhook.ended(&run, outcome, code, told.as_deref());
    watchdog.wait(notify::SEND_LIMIT, last).await;
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
struct StopNotice {
    systemd: Systemd,
    limit: Duration,
    task: tokio::task::JoinHandle<()>,
}

impl StopNotice {
    fn at_signal(signals: &Signals, systemd: &Systemd, limit: Duration) -> Self {
        let (clean, told) = (signals.clean().clone(), systemd.clone());
        Self {
            systemd: systemd.clone(),
            limit,
            task: tokio::spawn(async move {
                clean.cancelled().await;
                told.stopping(limit);
            }),
        }
    }

    fn now(self) {
        self.systemd.stopping(self.limit);
    }
}

impl Drop for StopNotice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often a failed lane is tried again.
fn retries(options: &RunOptions, lane: &Lane) -> u32 {
    let framework = options.loaded.plan.frameworks.get(&lane.id.framework);
    framework.map_or(0, |framework| framework.retries)
}

fn tried_again(options: &RunOptions, run: &StartedRun, lane: &Lane) -> bool {
    let state = run.journal.state();
    let known = state.lanes.get(&lane.id);
    known.is_some_and(|known| known.failures <= retries(options, lane))
}

/// Journals the end, writes the report and `run.json`; gives the exit code.
fn end(
    options: &RunOptions,
    run: &StartedRun,
    display: &Display,
    outcome: RunOutcome,
    mut exit_code: u8,
    reason: Option<String>,
) -> u8 {
    if let Some(reason) = &reason {
        display.say(&Line::RunStopped(reason));
    }
    let ended = Event::RunEnded(RunEnded {
        outcome,
        exit_code,
        reason,
    });
    if let Err(error) = run.journal.append(ended) {
        display.say(&Line::EndNotJournalled(&error));
        exit_code = exit_code.max(EXIT_MACHINE);
    }
    let mut info = run.info.clone();
    info.state = match outcome {
        RunOutcome::Finished => RunState::Finished,
        RunOutcome::Interrupted => RunState::Interrupted,
        RunOutcome::Unsafe => RunState::Unsafe,
        RunOutcome::Aborted => RunState::Aborted,
    };
    info.updated_unix_us = run.journal.state().last_unix_us;
    // Of all that the run measured, also where this start was narrowed: it is what `benchd report` writes.
    let lanes = benchd_plan::lanes(&options.loaded.plan, &benchd_plan::Only::default());
    let report = || match benchd_report::write_all(&run.dir, &options.loaded.plan, &lanes) {
        Ok(summary) => {
            display.close();
            let mut text = format!("\n{}\n", benchd_report::final_table(&summary));
            if !summary.verdicts.is_empty() {
                text += &format!("{}\n", benchd_report::sentences::verdict_lines(&summary.verdicts));
            }
            text += &format!("report {}\n", run.dir.report_html().display());
            // The run is over and stored, whoever still listens.
            if let Err(error) = benchd_report::print(&text) {
                tracing::warn!("stdout: {error}");
            }
        }
        // What is measured is safe in the run's folder; the report can be written again from it.
        Err(error) => display.say(&Line::NoReport(&run.dir, &error)),
    };
    match options.purpose {
        Purpose::Measure => report(),
        // Nothing was measured: what each start came to is told by who asked for it.
        Purpose::Trial => display.close(),
    }
    // Last: a run whose end is journalled and not written here died before its report, and is gone on with.
    if let Err(error) = info.write(&run.dir.run_json()) {
        display.say(&Line::NoRunJson(&error));
    }
    display.say(&Line::Took(display.elapsed()));
    exit_code
}

/// Why the run must end now, if it must.
fn halted(run: &StartedRun, signals: &Signals) -> Option<Halt> {
    if let Some(why) = run.journal.failed().reason() {
        return Some(Halt::Disk(why));
    }
    signals.first().map(Halt::Signal)
}

fn view(options: &RunOptions, run: &StartedRun, halt: Option<Halt>) -> RunView {
    let state = run.journal.state();
    let lanes = options
        .lanes
        .iter()
        .map(|lane| {
            let known = state.lanes.get(&lane.id);
            let finished = |cell: &benchd_plan::Cell| state.finished(&lane.id, &cell.id);
            let stands = |cell: &&benchd_plan::Cell| state.stands(&lane.id, &cell.id).is_some();
            let last = known.and_then(|l| l.ended.as_ref()).map(|ended| ended.outcome);
            let tried = options.purpose == Purpose::Trial && last == Some(LaneOutcome::Finished);
            let open = match tried {
                true => 0,
                false => lane.cells.iter().filter(|cell| !stands(cell)).count(),
            };
            let spoilt = lane
                .cells
                .iter()
                .filter(|cell| finished(cell).is_some() && !stands(cell))
                .count();
            LaneView {
                open_cells: u32::try_from(open).unwrap_or(u32::MAX),
                spoilt_cells: u32::try_from(spoilt).unwrap_or(u32::MAX),
                attempts: known.map_or(0, |l| l.attempts),
                failures: known.map_or(0, |l| l.failures),
                retries: retries(options, lane),
                last,
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
