//! How long a plan will take: a rough figure for people, from named assumptions and the plan alone.
//!
//! It knows neither the machine nor the model's size. The assumptions are those of one data-centre GPU with a model
//! of 8 to 20 billion parameters; on other machines the figure is off by a factor, the shares of the lanes much
//! less.

use std::time::Duration;

use super::{Arrival, CachePolicy, Cell, CellInput, Framework, Lane, Plan, PromptType, Source, most_streams};

/// What an estimate assumes. [`Assumptions::default`] has the figures, each with its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Prompt tokens that a server reads per second, over all requests.
    pub prefill_tokens_per_s: f64,
    /// Output tokens per second of one stream that has the server to itself.
    pub decode_tokens_per_s: f64,
    /// Streams at which a batching server's decode rate per stream has fallen to the half.
    pub half_rate_streams: f64,
    /// From SIGTERM to the proof that the GPU memory is back.
    pub stop_and_release: Duration,
    /// One-token requests that find the text of one exact length.
    pub probes_per_length: f64,
    /// Questions with one checkable answer.
    pub questions: u32,
    /// Tokens of such a question.
    pub question_tokens: u32,
    /// Most answers are over after this part of their most tokens: one in …
    pub answer_share: u32,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            // An A100 reads 8 to 20 thousand tokens a second with an 8B model in bf16; the lower end.
            prefill_tokens_per_s: 8_000.0,
            // An A100 writes 80 to 150 tokens a second in one stream with these models.
            decode_tokens_per_s: 90.0,
            // Decode is bound by memory traffic, which a batch shares: per stream it falls slowly.
            half_rate_streams: 64.0,
            // SGLang drains in steps of 5 s; the driver gives memory back within a second or two.
            stop_and_release: Duration::from_secs(10),
            // A first guess, a bisection of a few steps, and a check.
            probes_per_length: 12.0,
            // The built-in ones and the needles.
            questions: 104,
            question_tokens: 60,
            // A word, a number or a code; a thinking model at low effort thinks a few sentences before it.
            answer_share: 8,
        }
    }
}

/// An estimate of a whole plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Each lane, in the order given.
    pub lanes: Vec<LaneEstimate>,
    /// All together.
    pub total: Duration,
}

/// An estimate of one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneEstimate {
    /// Launch to the first real answer.
    pub start: Duration,
    /// Finding the texts of exact length; in the first lane of a model only.
    pub calibration: Duration,
    /// The questions with one checkable answer, alone and with as many streams as the lane has.
    pub quality: Duration,
    /// The lane's own warm-up requests.
    pub warmup: Duration,
    /// Each scenario with its name: cache resets, warm-up waves and passes of its cells.
    pub scenarios: Vec<(String, Duration)>,
    /// SIGTERM to the proof of release.
    pub stop: Duration,
    /// All together.
    pub total: Duration,
}

/// How quick a kind of server is beside its answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// From launch to the first real answer.
    pub start: Duration,
    /// Emptying its cache before a cell.
    pub cache_reset: Duration,
    /// Requests that it works on at once, while the others wait; `None` where it batches all that come.
    pub slots: Option<u32>,
}

/// Estimates a plan's duration. `pace` knows the frameworks.
pub fn estimate(
    plan: &Plan,
    lanes: &[Lane],
    assumptions: &Assumptions,
    pace: impl Fn(&Framework) -> Pace,
) -> Estimate {
    let mut calibrated: Vec<&str> = Vec::new();
    let mut out = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let Some(framework) = plan.frameworks.get(&lane.id.framework) else {
            continue;
        };
        let file = plan
            .models
            .get(&lane.id.model)
            .is_some_and(|m| m.tokenizer.is_some());
        let calibrate = !file && !calibrated.contains(&lane.id.model.as_str());
        calibrated.push(&lane.id.model);
        let pace = pace(framework);
        out.push(lane_estimate(plan, framework, pace, lane, calibrate, assumptions));
    }
    let total = out.iter().map(|l| l.total).sum();
    Estimate { lanes: out, total }
}

fn lane_estimate(
    plan: &Plan,
    framework: &Framework,
    pace: Pace,
    lane: &Lane,
    calibrate: bool,
    a: &Assumptions,
) -> LaneEstimate {
    let ours = !matches!(framework.source, Source::Url(_));
    let (start, stop) = if ours {
        (pace.start, a.stop_and_release)
    } else {
        (Duration::ZERO, Duration::ZERO)
    };
    let calibration = if calibrate {
        calibration(lane, a)
    } else {
        Duration::ZERO
    };
    let warmup = lane.cells.first().map_or(Duration::ZERO, |cell| {
        closed_loop(
            plan.request.warmup,
            1,
            prompt_tokens(cell.input),
            cell.output_tokens,
            pace.slots,
            a,
        )
    });
    let quality = plan.quality.as_ref().map_or(Duration::ZERO, |quality| {
        let tokens = plan
            .models
            .get(&lane.id.model)
            .map_or(0, |m| quality.answer_tokens(m));
        let asked = |streams| {
            let (input, output) = (a.question_tokens, tokens / a.answer_share);
            closed_loop(a.questions, streams, input, output, pace.slots, a)
        };
        match most_streams(lane) {
            0 | 1 => asked(1),
            most => asked(1) + asked(most),
        }
    });
    let mut scenarios: Vec<(String, Duration)> = Vec::new();
    for cell in &lane.cells {
        let mut time = cell_time(cell, pace.slots, a);
        if cell.cache == CachePolicy::Reset {
            time += pace.cache_reset;
        }
        match scenarios.last_mut() {
            Some((name, sum)) if *name == cell.scenario => *sum += time,
            _ => scenarios.push((cell.scenario.clone(), time)),
        }
    }
    let measured: Duration = scenarios.iter().map(|(_, time)| *time).sum();
    let total = start + calibration + quality + warmup + measured + stop;
    LaneEstimate {
        start,
        calibration,
        quality,
        warmup,
        scenarios,
        stop,
        total,
    }
}

fn cell_time(cell: &Cell, slots: Option<u32>, a: &Assumptions) -> Duration {
    let (input, output) = (prompt_tokens(cell.input), cell.output_tokens);
    let warmup = closed_loop(
        cell.warmup,
        cell.concurrency.max(cell.warmup),
        input,
        output,
        slots,
        a,
    );
    let pass = match cell.arrival {
        Arrival::Closed => closed_loop(cell.requests_per_pass, cell.concurrency, input, output, slots, a),
        Arrival::Constant { rate_per_s }
        | Arrival::Poisson { rate_per_s }
        | Arrival::Gamma { rate_per_s, .. } => {
            seconds(f64::from(cell.requests_per_pass) / rate_per_s)
                + closed_loop(1, 1, input, output, slots, a)
        }
    };
    warmup + pass * cell.passes
}

/// Waves of as many requests as are worked on at once; each wave reads its prompts, then writes its answers.
fn closed_loop(
    requests: u32,
    concurrency: u32,
    input_tokens: u32,
    output_tokens: u32,
    slots: Option<u32>,
    a: &Assumptions,
) -> Duration {
    let at_once = slots.map_or(concurrency, |slots| concurrency.min(slots));
    let at_once = at_once.min(requests).max(1);
    let streams = f64::from(at_once);
    let waves = f64::from(requests) / streams;
    let prefill = streams * f64::from(input_tokens) / a.prefill_tokens_per_s;
    let rate = a.decode_tokens_per_s / (1.0 + (streams - 1.0) / a.half_rate_streams);
    seconds(waves * (prefill + f64::from(output_tokens) / rate))
}

/// Each length of the lane's prompts is searched by one-token requests.
fn calibration(lane: &Lane, a: &Assumptions) -> Duration {
    let mut lengths: Vec<u32> = lane
        .cells
        .iter()
        .flat_map(|cell| match cell.input {
            CellInput::Exact { input_tokens } => vec![input_tokens],
            CellInput::SharedPrefix {
                system_tokens,
                question_tokens,
            } => vec![system_tokens, question_tokens],
            CellInput::Written { .. } => Vec::new(),
        })
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    let one = |tokens: u32| f64::from(tokens) / a.prefill_tokens_per_s + 1.0 / a.decode_tokens_per_s;
    seconds(lengths.into_iter().map(one).sum::<f64>() * a.probes_per_length)
}

/// Prompt tokens of one request. A prefix cache's savings are left out: not every framework has one.
fn prompt_tokens(input: CellInput) -> u32 {
    match input {
        CellInput::Exact { input_tokens } => input_tokens,
        CellInput::SharedPrefix {
            system_tokens,
            question_tokens,
        } => system_tokens.saturating_add(question_tokens),
        CellInput::Written { prompt_type, .. } => match prompt_type {
            PromptType::Question | PromptType::Summary | PromptType::Translation | PromptType::Essay => 128,
            PromptType::QuestionLong
            | PromptType::SummaryLong
            | PromptType::TranslationLong
            | PromptType::EssayLong => 512,
        },
    }
}

/// Never panics: what is beyond a thousand years is a thousand years.
fn seconds(s: f64) -> Duration {
    const THOUSAND_YEARS_S: f64 = 3.2e10;
    Duration::from_secs_f64(s.clamp(0.0, THOUSAND_YEARS_S))
}
