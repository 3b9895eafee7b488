//! One lane: what its server did and what its cells come to.

use std::collections::BTreeSet;

use super::{
    AnalysisError, LaneSummary, MissingCell, SUMMARY_VERSION, ServerSummary, StrangerSummary,
    cell::{cell_window, fold_cell},
    context::CellContext,
    drift,
    gpu::{GpuWindow, gpu_windows},
    korean,
    parallel::in_parallel,
    precision::precision_of,
    prompts::FrozenPrompts,
    quality,
    samples::CellSamples,
    series::{GpuFold, LaneAttempt, LaneSeries},
};
use benchd_core::record::LaneId;
use benchd_frameworks::kind;
use benchd_journal::{
    FinishedCell, LaneOutcome, LaneState, RunDir, RunInfo, ServerReady, State, TEMPLATE_WITH_SYSTEM,
};
use benchd_plan::{Cell, CellInput, Framework, GpuSelection, Plan, Source};
use benchd_prompts::Question;

/// What all lanes of a run share.
pub(super) struct RunContext<'a> {
    pub(super) dir: &'a RunDir,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
    pub(super) info: Option<&'a RunInfo>,
    pub(super) prompts: &'a FrozenPrompts,
    pub(super) questions: &'a [Question],
}

impl RunContext<'_> {
    /// A lane's summary, the numbers of its measured cells' requests, and what charts are drawn from.
    pub(super) fn lane(
        &self,
        id: &LaneId,
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
        let devices = self
            .info
            .iter()
            .flat_map(|info| info.gpu.iter().flat_map(|gpu| &gpu.devices));
        let largest_mhz = devices
            .filter_map(|device| Some((device.index, device.sm_clock_max_mhz?)))
            .collect();
        let read = gpu_windows(
            &self.dir.gpu(id),
            &windows,
            &largest_mhz,
            &newcomers(state),
            |sample| {
                along.add(sample);
            },
        )?;
        let (gpu, gpu_lines_unreadable) = match read {
            Some((folded, unreadable)) => (Some(folded), unreadable),
            None => (None, 0),
        };
        let own_pids = own_pids(state);
        let not_controlled = matches!(framework.source, Source::Url(_));
        let mut strangers = self.strangers();
        if not_controlled {
            // Who ran before the run may be the server itself; whom its lane could not tell from it is no stranger.
            let known = !own_pids.is_empty();
            strangers.retain(|pid| known && !own_pids.contains(pid));
        }
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
            cut_off: state.cut_off,
            interrupted: state.interrupted,
            strangers: state.strangers.iter().map(StrangerSummary::from).collect(),
            measured_again: measured_again(state),
            server: self.server(state),
            facts: ready.map(|r| r.facts.clone()).unwrap_or_default(),
            precision: ready.map(precision_of).unwrap_or_default(),
            template_tokens,
            cells: Vec::new(),
            missing: Vec::new(),
            korean: Vec::new(),
            drift: None,
            energy: None,
            quality: quality::of_lane(self.dir, state, self.questions)?,
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
                model_id: model_id.filter(|_| kind(framework.kind).echoes_model),
                not_controlled,
                gpu_expected: self.plan.host.gpu != GpuSelection::None,
                gpu: gpu.as_ref().and_then(|g: &Vec<GpuWindow>| g.get(*at)),
                own_pids: &own_pids,
                strangers: &strangers,
                max_events_per_s: self.info.and_then(|i| i.client.as_ref()?.events_limit()),
                prompts: &self.prompts.sizes,
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
        .flat_map(|s| s.leader.iter().chain(&s.descendants))
        .chain(state.attached.iter().flat_map(|attached| &attached.processes));
    processes.filter_map(|p| u32::try_from(p.pid).ok()).collect()
}

/// Process ids of strangers that came while the lane ran.
fn newcomers(state: &LaneState) -> BTreeSet<u32> {
    state.strangers.iter().map(|stay| stay.process.pid).collect()
}

/// Cells that a stranger spoilt, and that have a result beside it now.
fn measured_again(state: &LaneState) -> u32 {
    let again = state.cells.values().filter(|cell| {
        let finished = cell.finished.as_ref();
        cell.spoilt > 0 && finished.is_some_and(|finished| finished.spoilt_by().is_none())
    });
    u32::try_from(again.count()).unwrap_or(u32::MAX)
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

/// Tokens that the chat template adds to this cell's prompts: a system message has a share of its own.
fn template_of(cell: &Cell, ready: Option<&ServerReady>) -> Option<u32> {
    let ready = ready?;
    match cell.input {
        CellInput::SharedPrefix { .. } => ready.facts.get(TEMPLATE_WITH_SYSTEM)?.parse().ok(),
        CellInput::Exact { .. } | CellInput::Written { .. } => ready.template_tokens,
    }
}
