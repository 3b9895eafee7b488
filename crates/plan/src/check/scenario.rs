//! Scenarios: the keys that a kind uses, no others, and numbers that make sense together.

use std::{num::NonZeroU32, time::Duration};

use indexmap::IndexMap;

use super::{At, Checker};
use crate::{
    Arrival, CachePolicy, Framework, Language, PromptMode, PromptType, RequestCount, Scenario, ScenarioKind,
    Slo,
    diagnostic::KeyPath,
    raw::{RawPlan, RawScenario, RawSlo},
    shapes::{OneOrMany, RawArrival, RawOpenArrival},
    values::RateText,
};

const KINDS: [ScenarioKind; 5] = [
    ScenarioKind::Single,
    ScenarioKind::Concurrent,
    ScenarioKind::LongContext,
    ScenarioKind::PrefixCache,
    ScenarioKind::Korean,
];

/// Most requests of one pass. More is a slip: a night has room for far fewer.
const MAX_REQUESTS_PER_PASS: u64 = 10_000_000;

/// Most cells of a plan over all lanes and rounds.
const MAX_CELLS: usize = 100_000;

/// Why a kind has no use for a key; `None` where it has.
fn unused(kind: ScenarioKind, key: &str) -> Option<&'static str> {
    use ScenarioKind::{Concurrent, Korean, LongContext, PrefixCache, Single};
    match (key, kind) {
        ("concurrency", Single) => {
            Some("it sends one request at a time; for more streams there is `kind: concurrent`")
        }
        ("concurrency", PrefixCache) => {
            Some("it sends its requests one after another, so that the cache alone makes the difference")
        }
        ("input_tokens", PrefixCache) => {
            Some("its prompts are made of `system_tokens` and `question_tokens`")
        }
        ("input_tokens", Korean) => {
            Some("its prompts are written texts; `prompt_types` chooses short or long ones")
        }
        ("prompts", PrefixCache) => Some("a shared beginning with different questions is what it measures"),
        ("arrival", Single | PrefixCache) => Some("its requests wait for each other"),
        ("arrival", Korean) => Some("it compares languages in a closed loop"),
        ("system_tokens" | "question_tokens", Single | Concurrent | LongContext | Korean) => {
            Some("only `prefix_cache` has a shared system prompt")
        }
        ("prompt_types" | "languages", Single | Concurrent | LongContext | PrefixCache) => {
            Some("only `korean` has written prompts")
        }
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn scenarios(
        &mut self,
        raw: Option<&IndexMap<String, RawScenario>>,
    ) -> IndexMap<String, Scenario> {
        let mut out = IndexMap::new();
        for (name, raw) in raw.into_iter().flatten() {
            if let Some(scenario) = self.scenario(name, raw) {
                out.insert(name.clone(), scenario);
            }
        }
        out
    }

    fn scenario(&mut self, name: &str, raw: &RawScenario) -> Option<Scenario> {
        let path = KeyPath::of(&["scenarios", name]);
        let kind = raw
            .kind
            .or_else(|| KINDS.into_iter().find(|k| k.as_str() == name));
        let Some(kind) = kind else {
            if !self.written(&path.key("kind")) {
                let names = KINDS.map(ScenarioKind::as_str);
                let help = match crate::name::nearest(name, names) {
                    Some(meant) => {
                        format!("did you mean `{meant}`? A scenario of another name says its `kind:`")
                    }
                    None => format!("add `kind:` {}", names.join(", ")),
                };
                self.problem(At::Key, &path, format!("`{name}` has no `kind`"), Some(&help));
            }
            return None;
        };
        for key in [
            "concurrency",
            "input_tokens",
            "prompts",
            "arrival",
            "system_tokens",
            "question_tokens",
            "prompt_types",
            "languages",
        ] {
            let here = path.key(key);
            if let Some(why) = unused(kind, key)
                && self.tree.at(&here).is_some()
            {
                self.problem(
                    At::Key,
                    &here,
                    format!("a scenario of kind {kind} has no `{key}`: {why}"),
                    Some("take it out"),
                );
            }
        }
        match kind {
            ScenarioKind::Single | ScenarioKind::Concurrent | ScenarioKind::LongContext => {
                self.needs(
                    &path,
                    name,
                    "input_tokens",
                    "the prompt lengths: `input_tokens: [512]`",
                );
            }
            ScenarioKind::PrefixCache => {
                self.needs(
                    &path,
                    name,
                    "system_tokens",
                    "the length of the shared system prompt: `system_tokens: 2048`",
                );
                self.needs(
                    &path,
                    name,
                    "question_tokens",
                    "the length of each question: `question_tokens: 128`",
                );
            }
            ScenarioKind::Korean => {}
        }
        let arrival = match unused(kind, "arrival") {
            Some(_) => Some(Arrival::Closed),
            None => self.arrival(&path.key("arrival"), raw.arrival.as_ref()),
        };
        let open = matches!(raw.arrival, Some(RawArrival::Open(_))) && unused(kind, "arrival").is_none();
        let concurrency = self.concurrency(&path, name, kind, raw, open);
        let count = self.count(&path, name, kind, raw, open, &concurrency);
        let slo = raw.slo.as_ref().map(|slo| self.slo(&path.key("slo"), slo));
        let korean = kind == ScenarioKind::Korean;
        Some(Scenario {
            name: name.to_owned(),
            kind,
            concurrency,
            input_tokens: positive(raw.input_tokens.as_ref()),
            system_tokens: raw.system_tokens.and_then(NonZeroU32::new),
            question_tokens: raw.question_tokens.and_then(NonZeroU32::new),
            output_tokens: raw.output_tokens.and_then(NonZeroU32::new)?,
            count: count?,
            passes: NonZeroU32::new(raw.passes.unwrap_or(1))?,
            prompts: raw.prompts.unwrap_or(PromptMode::Distinct),
            warmup: raw.warmup,
            cache: raw.cache.unwrap_or(CachePolicy::Reset),
            arrival: arrival?,
            slo,
            prompt_types: match (&raw.prompt_types, korean) {
                (Some(types), true) => types.clone(),
                (None, true) => PromptType::ALL.to_vec(),
                (_, false) => Vec::new(),
            },
            languages: match (&raw.languages, korean) {
                (Some(languages), true) => languages.clone(),
                (None, true) => vec![Language::Ko, Language::En],
                (_, false) => Vec::new(),
            },
        })
    }

    fn needs(&mut self, path: &KeyPath, name: &str, key: &str, help: &str) {
        if !self.written(&path.key(key)) {
            self.problem(
                At::Key,
                path,
                format!("`{name}` has no `{key}`"),
                Some(&format!("add {help}")),
            );
        }
    }

    fn concurrency(
        &mut self,
        path: &KeyPath,
        name: &str,
        kind: ScenarioKind,
        raw: &RawScenario,
        open: bool,
    ) -> Vec<NonZeroU32> {
        let here = path.key("concurrency");
        if open && self.tree.at(&here).is_some() {
            let message = "`concurrency` and an open-loop `arrival` exclude each other";
            let help = "in an open loop the rate says when requests are sent, whatever is still running: take one of them out";
            self.problem(At::Key, &here, message, Some(help));
        }
        if kind == ScenarioKind::Concurrent && !open && !self.written(&path.key("arrival")) {
            self.needs(
                path,
                name,
                "concurrency",
                "the numbers of streams: `concurrency: [1, 8, 16]`",
            );
        }
        if open || unused(kind, "concurrency").is_some() {
            return vec![NonZeroU32::MIN];
        }
        let list = positive(raw.concurrency.as_ref());
        if list.is_empty() {
            vec![NonZeroU32::MIN]
        } else {
            list
        }
    }

    fn count(
        &mut self,
        path: &KeyPath,
        name: &str,
        kind: ScenarioKind,
        raw: &RawScenario,
        open: bool,
        concurrency: &[NonZeroU32],
    ) -> Option<RequestCount> {
        let (requests, repeats) = (path.key("requests"), path.key("repeats"));
        match (
            self.tree.at(&requests).is_some(),
            self.tree.at(&repeats).is_some(),
        ) {
            (true, true) => {
                let help =
                    "`requests` counts all requests of a pass, `repeats` those of each stream: keep one";
                self.problem(
                    At::Key,
                    &repeats,
                    "`requests` and `repeats` exclude each other",
                    Some(help),
                );
                return None;
            }
            (false, false) if !self.written(&requests) && !self.written(&repeats) => {
                let help = "add `requests: 100` (in all) or `repeats: 10` (for each stream)";
                self.problem(
                    At::Key,
                    path,
                    format!("`{name}` has neither `requests` nor `repeats`"),
                    Some(help),
                );
                return None;
            }
            _ => {}
        }
        let most = concurrency.iter().max().map_or(1, |c| c.get());
        if let Some(total) = raw.requests.and_then(NonZeroU32::new) {
            if total.get() < most {
                let message = format!("{total} requests can't keep {most} streams busy");
                let help =
                    format!("ask for at least {most} requests, or use `repeats` for so many on each stream");
                self.problem(At::Value, &requests, message, Some(&help));
            }
            if kind == ScenarioKind::PrefixCache && total.get() < 2 {
                let help = "the first request fills the cache, the later ones show what it saves: ask for at least 2";
                self.problem(
                    At::Value,
                    &requests,
                    "one request shows nothing of a prefix cache",
                    Some(help),
                );
            }
            return Some(RequestCount::Total(total));
        }
        let each = raw.repeats.and_then(NonZeroU32::new)?;
        if open {
            let help = "use `requests`: an open loop has no streams that something could be repeated on";
            self.problem(
                At::Key,
                &repeats,
                "`repeats` makes no sense in an open loop",
                Some(help),
            );
        }
        if u64::from(each.get()) * u64::from(most) > MAX_REQUESTS_PER_PASS {
            let message =
                format!("{each} repeats on {most} streams are more than {MAX_REQUESTS_PER_PASS} requests");
            self.problem(At::Value, &repeats, message, None);
        }
        if kind == ScenarioKind::PrefixCache && each.get() < 2 {
            let help =
                "the first request fills the cache, the later ones show what it saves: ask for at least 2";
            self.problem(
                At::Value,
                &repeats,
                "one request shows nothing of a prefix cache",
                Some(help),
            );
        }
        Some(RequestCount::PerStream(each))
    }

    fn arrival(&mut self, path: &KeyPath, raw: Option<&RawArrival>) -> Option<Arrival> {
        let RawOpenArrival {
            constant,
            poisson,
            gamma,
        } = match raw {
            None | Some(RawArrival::Closed) => return Some(Arrival::Closed),
            Some(RawArrival::Open(open)) => open,
        };
        // Exactly one of them is there in a good plan; each that is there is checked.
        let mut rate = |path: &KeyPath, raw: Option<&RateText>| raw.and_then(|r| self.rate(path, r));
        let constant = rate(&path.key("constant"), constant.as_ref());
        let poisson = rate(&path.key("poisson"), poisson.as_ref());
        let gamma_rate = rate(
            &path.key("gamma").key("rate"),
            gamma.as_ref().and_then(|g| g.rate.as_ref()),
        );
        let gamma = gamma_rate.zip(gamma.as_ref().and_then(|g| g.burstiness));
        constant
            .map(|rate_per_s| Arrival::Constant { rate_per_s })
            .or_else(|| poisson.map(|rate_per_s| Arrival::Poisson { rate_per_s }))
            .or_else(|| {
                gamma.map(|(rate_per_s, burstiness)| Arrival::Gamma {
                    rate_per_s,
                    burstiness,
                })
            })
    }

    fn rate(&mut self, path: &KeyPath, raw: &RateText) -> Option<f64> {
        match raw.parse() {
            Ok(rate) => Some(rate),
            Err(error) => {
                self.problem(
                    At::Value,
                    path,
                    error,
                    Some("write requests per second as `4/s` or `0.5/s`"),
                );
                None
            }
        }
    }

    fn slo(&mut self, path: &KeyPath, raw: &RawSlo) -> Slo {
        let mut limit = |key: &str, raw: Option<&_>| {
            raw.map(|text| {
                self.duration(
                    &path.key(key),
                    Some(text),
                    Duration::ZERO,
                    Duration::from_nanos(1),
                )
            })
        };
        Slo {
            ttft: limit("ttft", raw.ttft.as_ref()),
            tpot: limit("tpot", raw.tpot.as_ref()),
            latency: limit("latency", raw.latency.as_ref()),
        }
    }

    /// A plan whose cells can't be counted in a life is a slip, and would fill the memory when it is expanded.
    pub(super) fn size(&mut self, raw: &RawPlan, scenarios: &IndexMap<String, Scenario>) {
        let lanes = self.names("frameworks").len() * self.names("models").len();
        let rounds = raw.repeats.unwrap_or(1) as usize;
        let per_lane: usize = scenarios
            .values()
            .map(|s| match s.kind {
                ScenarioKind::Korean => s.concurrency.len() * s.prompt_types.len() * s.languages.len(),
                ScenarioKind::PrefixCache => 1,
                ScenarioKind::Single | ScenarioKind::Concurrent | ScenarioKind::LongContext => {
                    s.concurrency.len() * s.input_tokens.len()
                }
            })
            .sum();
        let cells = lanes.saturating_mul(rounds).saturating_mul(per_lane);
        if cells > MAX_CELLS {
            let message = format!("the plan has {cells} cells, more than {MAX_CELLS}");
            let help =
                format!("{lanes} lanes, {rounds} rounds, {per_lane} cells a lane: shorten one of them");
            self.problem(At::Key, &KeyPath::of(&["scenarios"]), message, Some(&help));
        }
    }

    /// A scenario that no framework runs is a slip.
    pub(super) fn something_to_run(
        &mut self,
        frameworks: &IndexMap<String, Framework>,
        scenarios: &IndexMap<String, Scenario>,
    ) {
        if frameworks.is_empty() || frameworks.len() < self.names("frameworks").len() {
            return;
        }
        for name in scenarios.keys() {
            let run = |f: &Framework| f.scenarios.as_ref().is_none_or(|only| only.contains(name));
            if !frameworks.values().any(run) {
                let help = "add it to a framework's `scenarios`, or take it out";
                let path = KeyPath::of(&["scenarios", name]);
                self.problem(
                    At::Key,
                    &path,
                    format!("no framework runs the scenario `{name}`"),
                    Some(help),
                );
            }
        }
    }
}

fn positive<const MAX: u32>(raw: Option<&OneOrMany<MAX>>) -> Vec<NonZeroU32> {
    raw.into_iter()
        .flat_map(|list| &list.0)
        .copied()
        .filter_map(NonZeroU32::new)
        .collect()
}
