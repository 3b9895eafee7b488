//! A whole run: its journal folded, its lanes' cells summarised.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::Deserialize;
use thiserror::Error;

use super::{
    CellContext, GpuWindow, LaneEnergy, LaneSummary, MissingCell, PromptLength, PromptLengths, RunSummary,
    SUMMARY_VERSION, ServerSummary,
    agreement::agreement,
    cell::{cell_window, fold_cell},
    compare::{self, Measured},
    drift,
    gpu::gpu_windows_and,
    hypotheses::{self, Night},
    korean::{self, TextSize},
    parallel::in_parallel,
    samples::CellSamples,
    series::{self, GpuFold, LaneAttempt, LaneSeries, RunSeries},
};
use benchd_core::record::{Flag, FlagKind};
use benchd_journal::{
    self, ClientCalibration, DiskError, FinishedCell, JournalError, LaneOutcome, LaneState, RunDir, RunInfo,
    RunOutcome, ServerReady, State, TEMPLATE_WITH_SYSTEM,
};
use benchd_plan::{Cell, CellInput, Framework, FrameworkKind, GpuSelection, Lane, Plan, Source};
use benchd_prompts::{Calibration, CountSource, Fitted};

/// A run can't be summarised at all. A cell that can't be is named in its lane instead.
#[derive(Debug, Error)]
pub enum AnalysisError {
    /// The journal or run.json can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal tells of a lane whose framework or model the plan does not have.
    #[error(
        "the journal has a lane {lane}, the plan has no such {what}\n  hint: plan.yaml in the run folder was changed"
    )]
    NotInPlan {
        /// The lane.
        lane: String,
        /// `framework` or `model`.
        what: &'static str,
    },
}

/// Tokens that the chat template adds to this cell's prompts: a system message has a share of its own.
fn template_of(cell: &Cell, ready: Option<&ServerReady>) -> Option<u32> {
    let ready = ready?;
    match cell.input {
        CellInput::SharedPrefix { .. } => ready.facts.get(TEMPLATE_WITH_SYSTEM)?.parse().ok(),
        CellInput::Exact { .. } | CellInput::Written { .. } => ready.template_tokens,
    }
}

/// A run's summary with the numbers of its single requests: what runs are compared and pooled by.
#[derive(Debug)]
pub struct RunAnalysis {
    /// The summary.
    pub summary: RunSummary,
    /// What charts are drawn from.
    pub series: RunSeries,
    /// By lane and measured cell, in the order of `summary.lanes` and their `cells`.
    pub(super) samples: Vec<Vec<CellSamples>>,
}

impl RunAnalysis {
    /// Every measured cell, as cells of this night.
    pub(super) fn measured(&self, night: u32) -> impl Iterator<Item = Measured<'_>> {
        measured(&self.summary.lanes, &self.samples, night)
    }

    /// The same for verdicts.
    pub(super) fn night(&self, night: u32) -> Night<'_> {
        Night {
            night,
            lanes: &self.summary.lanes,
            samples: &self.samples,
            client: self.summary.info.as_ref().and_then(|i| i.client.as_ref()),
            environments: self.summary.info.as_ref().map(|i| &i.environments),
        }
    }
}

fn measured<'a>(
    lanes: &'a [LaneSummary],
    samples: &'a [Vec<CellSamples>],
    night: u32,
) -> impl Iterator<Item = Measured<'a>> {
    lanes.iter().zip(samples).flat_map(move |(lane, samples)| {
        lane.cells
            .iter()
            .zip(samples)
            .map(move |(cell, samples)| Measured {
                lane: &lane.lane,
                night,
                scenario: &cell.scenario,
                cell: &cell.cell,
                samples,
            })
    })
}

/// Summarises a run from its folder, at any moment: finished, under way, or dead. `lanes` are the plan's lanes with
/// their cells.
pub fn summarise_run(dir: &RunDir, plan: &Plan, lanes: &[Lane]) -> Result<RunSummary, AnalysisError> {
    analyse_run(dir, plan, lanes).map(|analysis| analysis.summary)
}

/// Also gives what charts are drawn from.
pub fn summarise_run_with_series(
    dir: &RunDir,
    plan: &Plan,
    lanes: &[Lane],
) -> Result<(RunSummary, RunSeries), AnalysisError> {
    analyse_run(dir, plan, lanes).map(|analysis| (analysis.summary, analysis.series))
}

/// [`summarise_run`], and keeps what charts are drawn from and the numbers of the single requests.
pub fn analyse_run(dir: &RunDir, plan: &Plan, lanes: &[Lane]) -> Result<RunAnalysis, AnalysisError> {
    let replay = benchd_journal::replay(&dir.journal())?;
    let state = State::from_entries(&replay.entries);
    let mut notes: Vec<String> = state.notes.iter().map(|(_, n)| n.text.clone()).collect();
    notes.extend(replay.torn_tail.as_ref().map(ToString::to_string));
    let info = match RunInfo::read(&dir.run_json()) {
        Ok(info) => Some(info),
        Err(JournalError::Disk(e)) if e.source.kind() == std::io::ErrorKind::NotFound => {
            notes.push("run.json is missing: host and client are not known".to_owned());
            None
        }
        Err(e) => return Err(e.into()),
    };
    let prompts = prompt_sizes(&dir.prompts(), &mut notes)?;
    let prompt_lengths = prompt_lengths(&dir.calibration_json(), &mut notes);
    let run = Run {
        dir,
        plan,
        state: &state,
        info: info.as_ref(),
        prompts: &prompts,
    };
    let mut attempts = series::attempts(&replay.entries);
    let (mut summaries, mut samples, mut run_series) = (Vec::new(), Vec::new(), RunSeries::default());
    for (id, lane_state) in &state.lanes {
        let cells = lanes.iter().find(|l| l.id == *id).map_or(&[][..], |l| &l.cells);
        let attempts = attempts.remove(id).unwrap_or_default();
        let (lane, of_cells, series) = run.lane(id, lane_state, cells, attempts)?;
        if lane.gpu_lines_unreadable > 0 {
            notes.push(format!(
                "{id}: {} lines of gpu.jsonl could not be read",
                lane.gpu_lines_unreadable
            ));
        }
        summaries.push(lane);
        samples.push(of_cells);
        run_series.lanes.push(series);
    }
    let measured_cells: Vec<Measured<'_>> = measured(&summaries, &samples, 1).collect();
    let comparisons = compare::frameworks(&measured_cells);
    let rounds = compare::rounds(&measured_cells);
    let greedy = plan.request.temperature == 0.0;
    let agreement = if greedy {
        agreement(&measured_cells)
    } else {
        Vec::new()
    };
    drop(measured_cells);
    drift::over_rounds(&mut summaries, &rounds);
    flag_small_differences(&mut summaries, info.as_ref());
    let nights = [Night {
        night: 1,
        lanes: &summaries,
        samples: &samples,
        client: info.as_ref().and_then(|i| i.client.as_ref()),
        environments: info.as_ref().map(|i| &i.environments),
    }];
    let verdicts = hypotheses::verdicts(plan, &nights);
    let expectations = hypotheses::expectations(plan, &nights);
    let measured: u64 = summaries.iter().map(|l| l.cells.len() as u64).sum();
    let planned = u64::from(state.cells_planned()).max(measured);
    let summary = RunSummary {
        v: SUMMARY_VERSION,
        run_id: if state.run_id.is_empty() {
            dir.id().to_owned()
        } else {
            state.run_id.clone()
        },
        plan: plan.name.clone(),
        plan_sha256: state.plan_sha256.clone(),
        benchd_version: state.benchd_version.clone(),
        started_unix_us: state.started_unix_us,
        last_unix_us: state.last_unix_us,
        starts: state.starts,
        outcome: match state.ended.as_ref().map(|e| e.outcome) {
            None => "open",
            Some(RunOutcome::Finished) => "finished",
            Some(RunOutcome::Interrupted) => "interrupted",
            Some(RunOutcome::Unsafe) => "unsafe",
            Some(RunOutcome::Aborted) => "aborted",
        }
        .to_owned(),
        reason: state.ended.as_ref().and_then(|e| e.reason.clone()),
        partial: measured < planned,
        cells_measured: measured,
        cells_planned: planned,
        info,
        lanes: summaries,
        comparisons,
        rounds,
        agreement,
        verdicts,
        expectations,
        prompt_lengths,
        notes,
    };
    Ok(RunAnalysis {
        summary,
        series: run_series,
        samples,
    })
}

struct Run<'a> {
    dir: &'a RunDir,
    plan: &'a Plan,
    state: &'a State,
    info: Option<&'a RunInfo>,
    prompts: &'a HashMap<String, TextSize>,
}

impl Run<'_> {
    fn lane(
        &self,
        id: &benchd_core::record::LaneId,
        state: &LaneState,
        cells: &[Cell],
        attempts: Vec<LaneAttempt>,
    ) -> Result<(LaneSummary, Vec<CellSamples>, LaneSeries), AnalysisError> {
        let missing = |what| AnalysisError::NotInPlan {
            lane: id.to_string(),
            what,
        };
        let framework = self
            .plan
            .frameworks
            .get(&id.framework)
            .ok_or_else(|| missing("framework"))?;
        let model = self.plan.models.get(&id.model).ok_or_else(|| missing("model"))?;
        let model_id = model.id_for(framework.kind);
        let ready = state.ready();
        let template_tokens = ready.and_then(|r| r.template_tokens);

        let finished: Vec<(&Cell, &FinishedCell)> = cells
            .iter()
            .filter_map(|c| Some((c, state.cells.get(&c.id)?.finished.as_ref()?)))
            .collect();
        let windows: Vec<_> = finished.iter().map(|(_, f)| cell_window(f)).collect();
        let mut along = GpuFold::new(&attempts);
        let read = gpu_windows_and(&self.dir.gpu(id), &windows, |sample| along.add(sample))?;
        let (gpu, gpu_lines_unreadable) = match read {
            Some((folded, unreadable)) => (Some(folded), unreadable),
            None => (None, 0),
        };
        let (own_pids, strangers) = (own_pids(state), self.strangers());
        let mut lane = LaneSummary {
            v: SUMMARY_VERSION,
            lane: id.clone(),
            framework_kind: framework.kind.to_string(),
            version: version(framework, state, self.info),
            model_id: model_id.map(str::to_owned),
            outcome: outcome(state).to_owned(),
            stage: state.ended.as_ref().and_then(|e| e.stage.clone()),
            reason: state.ended.as_ref().and_then(|e| e.reason.clone()),
            log_tail: state
                .ended
                .as_ref()
                .map(|e| e.log_tail.clone())
                .unwrap_or_default(),
            attempts: state.attempts,
            server: self.server(state),
            facts: ready.map(|r| r.facts.clone()).unwrap_or_default(),
            template_tokens,
            cells: Vec::new(),
            missing: Vec::new(),
            korean: Vec::new(),
            drift: None,
            energy: None,
            gpu_lines_unreadable,
        };
        // Fewer cells than the plan has: `--only`; what it left out is not missing.
        let narrowed = (state.planned_cells as usize) < cells.len();
        let fold = |at: &usize| {
            let (cell, done) = finished.get(*at)?;
            let context = CellContext {
                cell,
                timeout: self.plan.request.timeout,
                template_tokens: template_of(cell, ready),
                model_id: model_id.filter(|_| framework.kind != FrameworkKind::Openai),
                not_controlled: matches!(framework.source, Source::Url(_)),
                gpu_expected: self.plan.host.gpu != GpuSelection::None,
                gpu: gpu.as_ref().and_then(|g: &Vec<GpuWindow>| g.get(*at)),
                own_pids: &own_pids,
                strangers: &strangers,
                max_events_per_s: self.info.and_then(|i| i.client.as_ref()?.events_limit()),
                prompts: self.prompts,
            };
            Some(fold_cell(self.dir.root(), done, &context))
        };
        let order: Vec<usize> = (0..finished.len()).collect();
        let mut folded = in_parallel(&order, fold).into_iter();
        let (mut measured, mut samples) = (Vec::new(), Vec::new());
        for cell in cells {
            if finished.iter().all(|(c, _)| c.id != cell.id) {
                if !narrowed || state.cells.contains_key(&cell.id) {
                    lane.missing.push(MissingCell {
                        cell: cell.id.clone(),
                        why: why_missing(state, &cell.id),
                    });
                }
                continue;
            }
            match folded.next().flatten() {
                Some(Ok((summary, of_cell))) => {
                    lane.cells.push(summary);
                    measured.push(cell);
                    samples.push(of_cell);
                }
                Some(Err(e)) => lane.missing.push(MissingCell {
                    cell: cell.id.clone(),
                    why: e.to_string(),
                }),
                None => {}
            }
        }
        for (id, _) in state
            .finished_cells()
            .filter(|(id, _)| cells.iter().all(|c| c.id != *id))
        {
            lane.missing.push(MissingCell {
                cell: id.to_owned(),
                why: "measured, but the plan has no such cell".to_owned(),
            });
        }
        let written: Vec<_> = measured
            .into_iter()
            .zip(samples.iter().map(|s: &CellSamples| &s.written))
            .collect();
        lane.energy = LaneEnergy::of(&lane.cells);
        lane.korean = korean::compare(&written);
        lane.drift = drift::of_lane(&mut lane.cells, &samples.iter().collect::<Vec<_>>());
        let (gpu, stops) = along.finish();
        let series = LaneSeries {
            cells: samples
                .iter_mut()
                .map(|s| std::mem::take(&mut s.series))
                .collect(),
            attempts,
            gpu,
            stops,
        };
        Ok((lane, samples, series))
    }

    fn strangers(&self) -> BTreeSet<u32> {
        self.state
            .baseline
            .iter()
            .flat_map(|b| b.strangers.iter().map(|p| p.pid))
            .collect()
    }

    fn server(&self, state: &LaneState) -> Option<ServerSummary> {
        let server = state.servers.last()?;
        let (ready, reaped) = (server.ready.as_ref(), server.reaped.as_ref());
        let baseline = self
            .state
            .baseline
            .as_ref()
            .map(|b| b.used_bytes.iter().sum::<u64>());
        let gpu_idle_bytes = ready
            .and_then(|r| r.gpu_used_bytes)
            .map(|b| b.saturating_sub(baseline.unwrap_or(0)));
        let load = ready.and_then(|r| r.load.clone());
        let devices = self.state.baseline.as_ref().map_or(0, |b| b.used_bytes.len());
        let gpu_rest_bytes = load
            .as_ref()
            .filter(|load| !load.on_host && load.devices as usize == devices)
            .and_then(|load| {
                gpu_idle_bytes?
                    .checked_sub(load.weights_bytes?)?
                    .checked_sub(load.kv_cache_bytes?)
            });
        Some(ServerSummary {
            argv: server.argv.clone(),
            env: server.env.clone(),
            healthy_ms: ready.map(|r| r.healthy_ms),
            ready_ms: ready.map(|r| r.ready_ms),
            stop_ms: reaped.map(|r| r.stop_ms),
            exit: reaped.map(|r| r.exit.clone()),
            killed: reaped.map(|r| r.killed),
            swept: reaped.map(|r| r.swept.len() as u64),
            release_ms: server.released.as_ref().map(|r| r.release_ms),
            held: server.held.as_ref().map(|h| h.reason.clone()),
            gpu_idle_bytes,
            load,
            gpu_rest_bytes,
            compile_caches: ready.and_then(|r| r.compile_caches.clone()),
        })
    }
}

fn own_pids(state: &LaneState) -> BTreeSet<u32> {
    let processes = state
        .servers
        .iter()
        .flat_map(|s| s.leader.iter().chain(&s.descendants));
    processes.filter_map(|p| u32::try_from(p.pid).ok()).collect()
}

fn version(framework: &Framework, state: &LaneState, info: Option<&RunInfo>) -> Option<String> {
    let said = state.ready().and_then(|r| r.facts.get("version"));
    let found = info.and_then(|i| i.versions.get(&framework.name));
    said.or(found).or(framework.version.as_ref()).cloned()
}

fn outcome(state: &LaneState) -> &'static str {
    match &state.ended {
        Some(ended) => match ended.outcome {
            LaneOutcome::Finished => "finished",
            LaneOutcome::Failed => "failed",
            LaneOutcome::Interrupted => "interrupted",
        },
        None if state.attempts > 0 => "running",
        None => "not started",
    }
}

fn why_missing(state: &LaneState, cell: &str) -> String {
    let Some(cell) = state.cells.get(cell) else {
        return match &state.ended {
            Some(ended) if ended.outcome == LaneOutcome::Failed => {
                format!(
                    "not reached: the lane failed ({})",
                    ended.reason.as_deref().unwrap_or("no reason given")
                )
            }
            _ => "not reached yet".to_owned(),
        };
    };
    cell.failures.last().map_or_else(
        || "begun, not ended: it is measured again from its start".to_owned(),
        |f| format!("failed: {}", f.reason),
    )
}

/// The client's own error of TTFT at so many streams, 99th percentile, milliseconds.
pub(super) fn ttft_error_ms(client: &ClientCalibration, streams: u32) -> Option<f64> {
    let at = client
        .points
        .iter()
        .find(|p| p.streams >= streams)
        .or(client.points.last())?;
    Some(at.ttft_error_us_p99.abs() / 1e3)
}

/// Flags cells of different frameworks whose TTFT differ by less than the client's own error.
fn flag_small_differences(lanes: &mut [LaneSummary], info: Option<&RunInfo>) {
    let Some(client) = info.and_then(|i| i.client.as_ref()) else {
        return;
    };
    let error_ms = |streams: u32| ttft_error_ms(client, streams);
    let medians: Vec<_> = lanes
        .iter()
        .flat_map(|l| {
            l.cells
                .iter()
                .map(move |c| (l.lane.clone(), c.cell.clone(), c.ttft_ms.as_ref().map(|d| d.p50)))
        })
        .collect();
    for lane in lanes {
        for cell in &mut lane.cells {
            let (Some(own), Some(error)) = (cell.ttft_ms.as_ref().map(|d| d.p50), error_ms(cell.concurrency))
            else {
                continue;
            };
            let close = medians.iter().find(|(other, id, p50)| {
                other.framework != lane.lane.framework
                    && (other.model.as_str(), other.round) == (lane.lane.model.as_str(), lane.lane.round)
                    && *id == cell.cell
                    && p50.is_some_and(|p50| (p50 - own).abs() < error)
            });
            if let Some((other, ..)) = close {
                let text = format!("TTFT differs from {} by less than {error:.3} ms", other.framework);
                cell.flags.push(Flag::new(FlagKind::BelowClientError, text));
            }
        }
    }
}

/// What calibration.json says; a file that can't be read is noted, since no figure depends on it.
fn prompt_lengths(path: &Path, notes: &mut Vec<String>) -> Vec<PromptLengths> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            notes.push(format!("calibration.json can't be read: {e}"));
            return Vec::new();
        }
    };
    let models: BTreeMap<String, Calibration> = match serde_json::from_slice(&text) {
        Ok(models) => models,
        Err(e) => {
            notes.push(format!("calibration.json can't be read: {e}"));
            return Vec::new();
        }
    };
    let of = |(model, c): (String, Calibration)| {
        let (mut lengths, mut probes) = (Vec::new(), 0);
        let mut add = |what: &str, fitted: &Fitted| {
            probes += u64::from(fitted.probes);
            lengths.push(PromptLength {
                what: what.to_owned(),
                asked: fitted.asked,
                reached: fitted.reached,
            });
        };
        c.exact.values().for_each(|f| add("prompt", f));
        c.systems.values().for_each(|f| add("system prompt", f));
        c.questions.values().flatten().for_each(|f| add("question", f));
        lengths.dedup();
        PromptLengths {
            model,
            source: match &c.source {
                CountSource::File { path, .. } => format!("tokenizer file {}", path.display()),
                CountSource::Server { framework } => format!("the usage of {framework}"),
            },
            template_user: matches!(c.source, CountSource::Server { .. }).then_some(c.template.user),
            template_system_and_user: c.template.system_and_user,
            template_confirmed: c.template.confirmed,
            template_disagreement: c.template.disagreement,
            lengths,
            joints: c.joints.iter().map(|j| (j.separate, j.together)).collect(),
            probes,
        }
    };
    models.into_iter().map(of).collect()
}

/// What this room needs of a line of prompts.jsonl.
#[derive(Deserialize)]
struct PromptLine {
    id: String,
    #[serde(default)]
    messages: Vec<MessageLine>,
}

#[derive(Deserialize)]
struct MessageLine {
    content: String,
}

fn prompt_sizes(path: &Path, notes: &mut Vec<String>) -> Result<HashMap<String, TextSize>, DiskError> {
    let mut sizes = HashMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(sizes),
        Err(e) => return Err(DiskError::new("open", path, e)),
    };
    let mut reader = BufReader::new(file);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader
            .read_until(b'\n', &mut line)
            .map_err(|e| DiskError::new("read", path, e))?
            == 0
        {
            return Ok(sizes);
        }
        number += 1;
        match serde_json::from_slice::<PromptLine>(&line) {
            Ok(prompt) => {
                let size = prompt
                    .messages
                    .iter()
                    .map(|m| TextSize::of(&m.content))
                    .fold(TextSize::default(), |a, b| a + b);
                if size.chars > 0 {
                    sizes.insert(prompt.id, size);
                }
            }
            Err(e) => notes.push(format!("{}:{number}: no prompt: {e}", path.display())),
        }
    }
}
