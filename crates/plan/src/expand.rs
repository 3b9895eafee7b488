//! From a plan to its lanes and cells, in the order in which they run.

use super::{
    Arrival, Cell, CellInput, Framework, Lane, Only, Order, Plan, RequestCount, Scenario, ScenarioKind,
};
use benchd_core::record::LaneId;

/// Warm-up requests before a cell, at the least, where the plan says nothing.
const LEAST_WARMUP: u32 = 3;

/// The lanes of a plan over all its rounds. A lane that has no cells is left out.
pub fn lanes(plan: &Plan, only: &Only) -> Vec<Lane> {
    let frameworks: Vec<&Framework> = plan.frameworks.values().collect();
    let mut out = Vec::new();
    for round in 1..=plan.repeats.get() {
        let mut order = frameworks.clone();
        let turn = (round - 1) as usize % frameworks.len().max(1);
        if plan.order == Order::Rotate {
            order.rotate_left(turn);
        }
        let mut this_round: Vec<Lane> = plan
            .models
            .keys()
            .flat_map(|model| order.iter().map(move |framework| (framework, model)))
            .filter(|(framework, model)| only.takes_lane(&framework.name, model))
            .filter(|(framework, model)| {
                let model = plan.models.get(model.as_str());
                model.is_none_or(|model| model.left_out(framework).is_none())
            })
            .map(|(framework, model)| Lane {
                id: LaneId {
                    framework: framework.name.clone(),
                    model: model.clone(),
                    round,
                },
                cells: cells_of(plan, framework, only),
            })
            .filter(|lane| !lane.cells.is_empty())
            .collect();
        if plan.order == Order::Interleave && round % 2 == 0 {
            this_round.reverse();
        }
        out.append(&mut this_round);
    }
    out
}

fn cells_of(plan: &Plan, framework: &Framework, only: &Only) -> Vec<Cell> {
    plan.scenarios
        .values()
        .filter(|s| {
            framework
                .scenarios
                .as_ref()
                .is_none_or(|names| names.contains(&s.name))
        })
        .flat_map(cells)
        .filter(|cell| only.takes_cell(cell))
        .collect()
}

/// The cells of a scenario, in the order in which they run: concurrency outside, length inside.
pub fn cells(scenario: &Scenario) -> Vec<Cell> {
    let s = scenario;
    let mut out = Vec::new();
    for concurrency in s.concurrency.iter().map(|c| c.get()) {
        let mut push = |suffix: String, input: CellInput| out.push(cell(s, suffix, concurrency, input));
        match s.kind {
            ScenarioKind::Single => {
                for input_tokens in s.input_tokens.iter().map(|n| n.get()) {
                    push(format!("/in{input_tokens}"), CellInput::Exact { input_tokens });
                }
            }
            ScenarioKind::Concurrent => {
                let streams = streams(s, concurrency);
                for input_tokens in s.input_tokens.iter().map(|n| n.get()) {
                    let length = if s.input_tokens.len() > 1 {
                        format!("/in{input_tokens}")
                    } else {
                        String::new()
                    };
                    push(format!("/{streams}{length}"), CellInput::Exact { input_tokens });
                }
            }
            ScenarioKind::LongContext => {
                let streams = streams(s, concurrency);
                for input_tokens in s.input_tokens.iter().map(|n| n.get()) {
                    push(
                        format!("/{streams}/in{input_tokens}"),
                        CellInput::Exact { input_tokens },
                    );
                }
            }
            ScenarioKind::PrefixCache => {
                if let (Some(system), Some(question)) = (s.system_tokens, s.question_tokens) {
                    let (system_tokens, question_tokens) = (system.get(), question.get());
                    push(
                        format!("/sys{system_tokens}"),
                        CellInput::SharedPrefix {
                            system_tokens,
                            question_tokens,
                        },
                    );
                }
            }
            ScenarioKind::Korean => {
                for prompt_type in s.prompt_types.iter().copied() {
                    for language in s.languages.iter().copied() {
                        let suffix =
                            format!("/c{concurrency}/{}/{}", prompt_type.as_str(), language.as_str());
                        push(
                            suffix,
                            CellInput::Written {
                                prompt_type,
                                language,
                            },
                        );
                    }
                }
            }
        }
    }
    out
}

/// `c16`, or `open` where a rate sends the requests: there is no number of streams then.
fn streams(scenario: &Scenario, concurrency: u32) -> String {
    match scenario.arrival {
        Arrival::Closed => format!("c{concurrency}"),
        Arrival::Constant { .. } | Arrival::Poisson { .. } | Arrival::Gamma { .. } => "open".to_owned(),
    }
}

fn cell(s: &Scenario, suffix: String, concurrency: u32, input: CellInput) -> Cell {
    Cell {
        id: format!("{}{suffix}", s.name),
        scenario: s.name.clone(),
        kind: s.kind,
        concurrency,
        input,
        output_tokens: s.output_tokens.get(),
        requests_per_pass: match s.count {
            RequestCount::Total(total) => total.get(),
            RequestCount::PerStream(each) => each.get().saturating_mul(concurrency),
        },
        passes: s.passes.get(),
        prompts: s.prompts,
        warmup: s.warmup.unwrap_or(LEAST_WARMUP.max(concurrency)),
        cache: s.cache,
        arrival: s.arrival,
        slo: s.slo,
    }
}
