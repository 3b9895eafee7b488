//! Synthetic runs whose verdicts are known.

mod document;
mod own;
mod rules;

use super::super::{ModelVerdict, RunSummary, Verdict, VerdictOutcome, VerdictTest, testing::*};
use benchd_core::record::LaneId;
use benchd_journal::LaneOutcome;
use benchd_plan::{Cell, CellInput, Language, Only, ScenarioKind, lanes, parse};

/// The frameworks of the user's plan and its five scenarios, small.
pub(super) const PLAN: &str = r#"version: 1
name: night
host: { gpu: none }
models:
  llama: { hf: meta-llama/Llama, ollama: llama }
frameworks:
  sglang: { version: 0.5.6.post2, venv: envs/sglang }
  vllm: { version: 0.15.1, venv: envs/vllm }
  ollama: { version: 0.15.6, binary: envs/ollama/bin/ollama, env: { OLLAMA_NUM_PARALLEL: "1" } }
  vllm-no-prefix-cache: { kind: vllm, venv: envs/vllm, args: [--no-enable-prefix-caching], scenarios: [prefix_cache] }
scenarios:
  single: { input_tokens: [512], output_tokens: 11, repeats: 10 }
  concurrent: { concurrency: [1, 8, 16, 64], input_tokens: 512, output_tokens: 11, requests: 64, passes: 5, prompts: identical }
  long_context: { concurrency: [1], input_tokens: [2048, 4096], output_tokens: 11, repeats: 5 }
  prefix_cache: { system_tokens: 2048, question_tokens: 128, output_tokens: 11, requests: 10, passes: 5 }
  korean: { concurrency: [1], output_tokens: 11, repeats: 3 }
hypotheses: [H1, H2, H3, H4, H5]
"#;

/// How fast a framework is, in the figures that hypotheses look at.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    /// Latency of one request alone, milliseconds.
    pub(super) single_ms: f64,
    /// Tokens per second by streams: `(streams, rate)`; the nearest below counts.
    pub(super) rates: Vec<(u32, f64)>,
    /// Tokens per second on the shared prefix.
    pub(super) shared_rate: f64,
    /// TTFT of first and later requests on the shared prefix, milliseconds.
    pub(super) first_ms: u64,
    pub(super) later_ms: u64,
    /// Korean prompt tokens for 100 English ones.
    pub(super) korean_tokens: u64,
    /// Requests of 64 that time out at 64 streams.
    pub(super) timeouts: usize,
}

impl Speed {
    /// A server that batches.
    pub(super) fn batching() -> Self {
        Self {
            single_ms: 1000.0,
            rates: vec![(1, 100.0), (8, 700.0), (16, 1300.0), (64, 4000.0)],
            shared_rate: 100.0,
            first_ms: 200,
            later_ms: 50,
            korean_tokens: 180,
            timeouts: 0,
        }
    }

    /// A server that answers one request after another.
    pub(super) fn serial() -> Self {
        Self {
            rates: vec![(1, 100.0), (8, 105.0), (16, 105.0), (64, 105.0)],
            later_ms: 200,
            ..Self::batching()
        }
    }
}

/// A little noise, the same for the same number: within 1 %.
fn noise(n: usize) -> f64 {
    1.0 + 0.01 * ((n as f64 * 2.399_963).sin())
}

/// What a framework did in one cell: passes with their durations.
fn did(speed: &Speed, cell: &Cell, salt: usize) -> Vec<(u64, Vec<Did>)> {
    let request = |i: usize, ttft_ms: f64, latency_ms: f64| {
        Did::ok(i as u64, ttft_ms.round() as u64, latency_ms.round() as u64)
    };
    let tokens = |did: Did, prompt: u64| Did {
        prompt_tokens: prompt + 10,
        ..did
    };
    (0..cell.passes as usize)
        .map(|pass| {
            let n = cell.requests_per_pass as usize;
            let at_rate =
                |rate: f64, ok: usize| (ok as f64 * 11.0 / rate * 1000.0 * noise(salt + pass)).round() as u64;
            match (cell.kind, cell.input) {
                (ScenarioKind::Concurrent, _) => {
                    let rate = speed.rates.iter().rfind(|(c, _)| *c <= cell.concurrency);
                    let rate = rate.map_or(100.0, |(_, rate)| *rate);
                    let failed = if cell.concurrency == 64 { speed.timeouts } else { 0 };
                    let all: Vec<Did> = (0..n)
                        .map(|i| match i < failed {
                            true => Did::timeout(0),
                            false => tokens(request(0, 20.0, 1000.0), 512),
                        })
                        .collect();
                    (at_rate(rate, (n - failed).max(1)), all)
                }
                (_, CellInput::SharedPrefix { .. }) => {
                    let all = (0..n)
                        .map(|i| {
                            let ttft = if i == 0 { speed.first_ms } else { speed.later_ms } as f64;
                            tokens(request(i, ttft * noise(i + pass + salt), 1000.0), 2176)
                        })
                        .collect();
                    (at_rate(speed.shared_rate, n), all)
                }
                (_, CellInput::Written { language, .. }) => {
                    let prompt = match language {
                        Language::Ko => speed.korean_tokens,
                        Language::En => 100,
                    };
                    let all = (0..n)
                        .map(|i| tokens(request(i * 2000, 30.0, 1000.0 * noise(i + salt)), prompt))
                        .collect();
                    (n as u64 * 2000, all)
                }
                (_, CellInput::Exact { input_tokens }) => {
                    let all = (0..n)
                        .map(|i| {
                            let (ttft, latency) = (
                                f64::from(input_tokens) / 10.0,
                                speed.single_ms * noise(i * 7 + salt) * (1.0 + i as f64 / 100.0),
                            );
                            tokens(request(i * 2000, ttft, latency), u64::from(input_tokens))
                        })
                        .collect();
                    (n as u64 * 2000, all)
                }
            }
        })
        .collect()
}

/// A run of a plan; `speed` gives each lane's, `None` for a lane that fails before it measures.
pub(super) fn night(plan: &str, speed: impl Fn(&LaneId) -> Option<Speed>) -> Builder {
    night_until(plan, speed, |_| None)
}

/// A lane that stops early: the first cell that it does not measure, and how it ends.
pub(super) type Until = (&'static str, LaneOutcome);

/// [`night`], with lanes that stop early.
pub(super) fn night_until(
    plan: &str,
    speed: impl Fn(&LaneId) -> Option<Speed>,
    until: impl Fn(&LaneId) -> Option<Until>,
) -> Builder {
    let plan = parse("plan.yaml", plan, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let lanes = lanes(&plan, &Only::default());
    let mut run = Builder::new(lanes.iter().map(|l| (l.id.clone(), l.cells.clone())).collect());
    run.plan = plan;
    for (n, lane) in lanes.iter().enumerate() {
        run.ready(&lane.id);
        match speed(&lane.id) {
            Some(speed) => {
                let until = until(&lane.id);
                let stops = |cell: &Cell| until.is_some_and(|(at, _)| cell.id == at);
                for (m, cell) in lane.cells.iter().take_while(|c| !stops(c)).enumerate() {
                    let passes = did(&speed, cell, n * 31 + m);
                    run.measured(&lane.id, &cell.id, &passes);
                }
                match until {
                    Some((_, outcome)) => {
                        run.end_lane(&lane.id, outcome, Some(("measure", "the server died", &[])));
                    }
                    None => run.finish_lane(&lane.id),
                }
            }
            None => run.end_lane(
                &lane.id,
                LaneOutcome::Failed,
                Some(("ready", "the server did not come up", &[])),
            ),
        }
    }
    run.finish();
    run
}

/// SGLang, vLLM, Ollama and the control as given.
pub(super) fn four(sglang: Speed, vllm: Speed, ollama: Speed, control: Speed) -> RunSummary {
    night(PLAN, |lane| {
        Some(match lane.framework.as_str() {
            "sglang" => sglang.clone(),
            "vllm" => vllm.clone(),
            "ollama" => ollama.clone(),
            _ => control.clone(),
        })
    })
    .summary()
    .expect("a summary")
}

pub(super) fn verdict<'a>(summary: &'a RunSummary, hypothesis: &str) -> &'a Verdict {
    summary
        .verdicts
        .iter()
        .find(|v| v.hypothesis == hypothesis)
        .unwrap_or_else(|| panic!("no verdict on {hypothesis}"))
}

/// The verdict of the only model.
pub(super) fn only<'a>(summary: &'a RunSummary, hypothesis: &str) -> &'a ModelVerdict {
    let v = verdict(summary, hypothesis);
    assert_eq!(v.models.len(), 1);
    &v.models[0]
}

#[track_caller]
pub(super) fn is(summary: &RunSummary, hypothesis: &str, outcome: VerdictOutcome) {
    let v = verdict(summary, hypothesis);
    assert_eq!(v.outcome, outcome, "{hypothesis}: {v:#?}");
}

pub(super) fn test_of<'a>(m: &'a ModelVerdict, figure: &str, of: &str, cell: &str) -> &'a VerdictTest {
    m.tests
        .iter()
        .find(|t| t.figure == figure && t.framework == of && t.cells.iter().any(|c| c == cell))
        .unwrap_or_else(|| panic!("no test of {figure} of {of} in {cell}"))
}
