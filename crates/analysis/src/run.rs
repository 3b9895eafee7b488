//! A whole run: its journal folded, its lanes summarised, its frameworks compared.

use std::collections::HashMap;

use super::{
    AnalysisError, LaneEnergy, RunSummary, SUMMARY_VERSION,
    agreement::agreement,
    client_error, compare, drift, hypotheses,
    lane::RunContext,
    measured::{MeasuredCell, Night},
    prompts::{FrozenPrompts, prompt_lengths},
    quality,
    samples::CellSamples,
    series::{self, RunSeries},
};
use benchd_journal::{JournalError, RunDir, RunInfo, RunOutcome, State};
use benchd_plan::{Lane, Plan};

/// A run's summary with the numbers of its single requests: what runs are compared and pooled by.
#[derive(Debug)]
pub(super) struct RunAnalysis {
    pub(super) summary: RunSummary,
    pub(super) series: RunSeries,
    /// [`FrozenPrompts::texts`].
    pub(super) texts: HashMap<u64, u64>,
    /// By lane and measured cell, in the order of `summary.lanes` and their `cells`.
    samples: Vec<Vec<CellSamples>>,
}

impl RunAnalysis {
    /// The run as one of several on its machine.
    pub(super) fn night(&self, night: u32) -> Night<'_> {
        Night::new(
            night,
            &self.summary.lanes,
            &self.samples,
            self.summary.info.as_ref(),
        )
    }
}

/// Summarises a run from its folder, at any moment: finished, under way, or dead; with what charts are drawn from.
/// `lanes` are the plan's lanes with their cells.
///
/// # Errors
/// Its journal, run.json or files can't be read, or the plan is not the run's.
pub fn summarise_run_with_series(
    dir: &RunDir,
    plan: &Plan,
    lanes: &[Lane],
) -> Result<(RunSummary, RunSeries), AnalysisError> {
    analyse_run(dir, plan, lanes).map(|analysis| (analysis.summary, analysis.series))
}

/// [`summarise_run_with_series`], and keeps the numbers of the single requests.
pub(super) fn analyse_run(dir: &RunDir, plan: &Plan, lanes: &[Lane]) -> Result<RunAnalysis, AnalysisError> {
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
    let prompts = FrozenPrompts::read(&dir.prompts(), &mut notes)?;
    let prompt_lengths = prompt_lengths(&dir.calibration_json(), &mut notes);
    let questions = quality::frozen_questions(dir, &mut notes);
    let run = RunContext {
        dir,
        plan,
        state: &state,
        info: info.as_ref(),
        prompts: &prompts,
        questions: &questions,
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
    let night = Night::new(1, &summaries, &samples, info.as_ref());
    let measured_cells: Vec<MeasuredCell<'_>> = night.measured().collect();
    let comparisons = compare::frameworks(&measured_cells);
    let rounds = compare::rounds(&measured_cells);
    let greedy = plan.request.temperature == 0.0;
    let agreement = if greedy {
        agreement(&measured_cells)
    } else {
        Vec::new()
    };
    drop(measured_cells);
    LaneEnergy::compare(&mut summaries);
    drift::over_rounds(&mut summaries, &rounds);
    client_error::flag(&mut summaries, &comparisons, info.as_ref());
    let nights = [Night::new(1, &summaries, &samples, info.as_ref())];
    let verdicts = hypotheses::verdicts(plan, &nights);
    let expectations = hypotheses::expectations(plan, &nights);
    let asked = summaries
        .iter()
        .filter_map(|l| Some((&l.lane, l.quality.as_ref()?)));
    let quality = quality::pairs(asked);
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
        quality,
        verdicts,
        expectations,
        prompt_lengths,
        notes,
    };
    Ok(RunAnalysis {
        summary,
        series: run_series,
        texts: prompts.texts,
        samples,
    })
}
