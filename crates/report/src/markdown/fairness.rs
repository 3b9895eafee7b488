//! What differs between the frameworks of one model beside the framework itself: versions, weights, settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{super::number::*, Table, escape, framework, lanes_of, models};
use benchd_analysis::{LaneSummary, RunSummary, ServedWeights};
use benchd_core::{format::list, record::Format};

/// The part; empty where no server told anything.
pub(super) fn section(summary: &RunSummary) -> String {
    let table = settings(summary);
    let mut told = String::new();
    for model in models(summary) {
        told.push_str(&weights(summary, model));
        told.push_str(&prefix_caches(summary, model));
        told.push_str(&contexts(summary, model));
        told.push_str(&cache_precisions(summary, model));
        told.push_str(&reserved_shares(summary, model));
    }
    told.push_str(&at_once(summary));
    if table.is_empty() && told.is_empty() {
        return String::new();
    }
    let mut text = "### What differs beside the framework\n\n".to_owned();
    if !table.is_empty() {
        let _ = writeln!(
            text,
            "What each server said of itself, or was told by its settings:\n\n{table}"
        );
    }
    if told.is_empty() {
        text.push_str(
            "Nothing in these that decides a comparison differs between the frameworks of a model.\n\n",
        );
    } else {
        let _ = writeln!(text, "{told}");
    }
    text
}

fn fact<'l>(lane: &'l LaneSummary, name: &str) -> Option<&'l str> {
    lane.facts.get(name).map(String::as_str)
}

fn settings(summary: &RunSummary) -> Table {
    let mut table = Table::new([
        "framework",
        "model",
        "version",
        "weights",
        "read from",
        "KV cache in",
        "random weights",
        "prefix cache",
        ">context (tokens)",
        ">KV cache (tokens)",
        ">requests at once",
    ]);
    // Rounds of a lane are served alike.
    for lane in summary
        .lanes
        .iter()
        .filter(|l| l.lane.round == 1 && !l.facts.is_empty())
    {
        let tokens = |name: &str| match fact(lane, name) {
            Some(text) => text.parse().map_or_else(|_| escape(text), count),
            None => NONE.to_owned(),
        };
        table.row([
            framework(&lane.lane),
            escape(&lane.lane.model),
            lane.version
                .as_deref()
                .or(fact(lane, "version"))
                .map_or(NONE.to_owned(), escape),
            lane.precision
                .weights
                .value()
                .map_or(UNKNOWN.to_owned(), precision),
            lane.precision.weights.from().map_or(NONE.to_owned(), escape),
            lane.precision
                .kv_cache
                .value()
                .map_or(UNKNOWN.to_owned(), |format| escape(&format.to_string())),
            match lane.precision.random_weights.value() {
                Some(true) => "**yes**".to_owned(),
                Some(false) => "no".to_owned(),
                None => UNKNOWN.to_owned(),
            },
            match fact(lane, "prefix_cache").map(is_on) {
                Some(Some(true)) => "on".to_owned(),
                Some(Some(false)) => "off".to_owned(),
                _ => "not told".to_owned(),
            },
            tokens("context_length"),
            tokens("kv_capacity_tokens"),
            tokens("parallel_requests"),
        ]);
    }
    table
}

fn is_on(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// What nothing says.
const UNKNOWN: &str = "unknown";

/// `Q4_K_M (4 bit)`.
fn precision(format: &Format) -> String {
    let name = escape(&format.to_string());
    match format.bits() {
        Some(bits) => format!("{name} ({bits} bit)"),
        None => name,
    }
}

/// Frameworks by what they say of something.
fn by_value<'s>(
    summary: &'s RunSummary,
    model: &'s str,
    read: impl Fn(&'s LaneSummary) -> Option<String>,
) -> BTreeMap<String, BTreeSet<&'s str>> {
    let mut all: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for lane in lanes_of(summary, model).filter(|l| !l.facts.is_empty()) {
        if let Some(value) = read(lane) {
            all.entry(value).or_default().insert(&lane.lane.framework);
        }
    }
    all
}

fn names(of: &BTreeSet<&str>) -> String {
    let names: Vec<String> = of.iter().map(|n| escape(n)).collect();
    list(&names)
}

/// Quantisation in plain words.
fn weights(summary: &RunSummary, model: &str) -> String {
    let served = ServedWeights::of(lanes_of(summary, model).filter(|l| !l.facts.is_empty()));
    let Some(statement) = served.statement() else {
        return String::new();
    };
    let mut text = format!("- **{}: {}.**", escape(model), escape(&statement));
    let bits: BTreeSet<u32> = served.read.iter().filter_map(|(f, _)| f.bits()).collect();
    if let (Some(few), Some(many)) = (bits.first(), bits.last())
        && few < many
    {
        let _ = write!(
            text,
            " Weights of {few} bit take about {} of the memory of those of {many} bit, and that much less is read for \
             every token: a single stream is faster by that alone, and answers differ.",
            match (few, many) {
                (4, 16) => "a quarter".to_owned(),
                (4, 8) | (8, 16) => "half".to_owned(),
                _ => percent(f64::from(*few) / f64::from(*many)),
            }
        );
    }
    text.push_str(" Part of any difference is theirs, not the framework's.\n");
    text
}

fn prefix_caches(summary: &RunSummary, model: &str) -> String {
    let told = by_value(summary, model, |l| {
        let on = is_on(fact(l, "prefix_cache")?)?;
        Some(if on { "on" } else { "off" }.to_owned())
    });
    match (told.get("on"), told.get("off")) {
        (Some(on), Some(off)) => format!(
            "- **{}: the prefix cache is on in {}, off in {}.** Prompts that begin as an earlier one did are computed once with \
             it, each time without.\n",
            escape(model),
            names(on),
            names(off)
        ),
        _ => String::new(),
    }
}

fn contexts(summary: &RunSummary, model: &str) -> String {
    let told = by_value(summary, model, |l| fact(l, "context_length").map(str::to_owned));
    if told.len() < 2 {
        return String::new();
    }
    let mut sides: Vec<_> = told.iter().collect();
    sides.sort_by_key(|(tokens, _)| tokens.parse::<u64>().unwrap_or(u64::MAX));
    let sides: Vec<String> = sides
        .into_iter()
        .map(|(tokens, of)| {
            let tokens = tokens.parse().map_or_else(|_| escape(tokens), count);
            format!("{tokens} tokens in {}", names(of))
        })
        .collect();
    format!(
        "- **{}: the longest context differs:** {}. Where a server reserves memory by it, part of its GPU memory is this setting's.\n",
        escape(model),
        sides.join("; ")
    )
}

/// `fp8_e5m2 in sglang; auto in vllm`, where there is more than one value.
fn sides(told: &BTreeMap<String, BTreeSet<&str>>) -> Option<String> {
    let sides = told.iter().map(|(value, of)| format!("{value} in {}", names(of)));
    (told.len() > 1).then(|| sides.collect::<Vec<_>>().join("; "))
}

fn cache_precisions(summary: &RunSummary, model: &str) -> String {
    let told = by_value(summary, model, |l| {
        Some(escape(&l.precision.kv_cache.value()?.to_string()))
    });
    // 16-bit floats of both kinds take the same memory and time.
    let formats: Vec<&Format> = lanes_of(summary, model)
        .filter_map(|l| l.precision.kv_cache.value())
        .collect();
    if formats.iter().all(|format| formats[0].is_like(format)) {
        return String::new();
    }
    sides(&told).map_or(String::new(), |sides| {
        format!(
            "- **{}: the KV cache is not kept in the same precision:** {sides}. A smaller one holds more tokens and is read \
             faster, and may answer differently.\n",
            escape(model)
        )
    })
}

fn reserved_shares(summary: &RunSummary, model: &str) -> String {
    let told = by_value(summary, model, |lane| {
        let argv = &lane.server.as_ref()?.argv;
        let at = argv
            .iter()
            .position(|arg| benchd_frameworks::reserves_share(arg))?;
        Some(format!("{} (`{}`)", escape(argv.get(at + 1)?), argv[at]))
    });
    sides(&told).map_or(String::new(), |sides| {
        format!(
            "- **{}: the share of GPU memory to reserve is not the same:** {sides}. What is left of it after the weights is KV \
             cache: it decides how many requests run at a time before others wait.\n",
            escape(model)
        )
    })
}

/// Limits of requests at once that a setting draws.
fn at_once(summary: &RunSummary) -> String {
    let mut text = String::new();
    for lane in &summary.lanes {
        let kind = benchd_frameworks::named(&lane.framework_kind);
        let Some(variable) = kind.and_then(|kind| kind.parallel_variable) else {
            continue;
        };
        let env = lane.server.iter().flat_map(|s| &s.env);
        if let Some((_, parallel)) = env.into_iter().find(|(name, _)| name == variable) {
            let _ = writeln!(
                text,
                "- **{} / {}: requests at once are limited by a setting** (`{variable}={}`). What it does under load \
                 is decided by this, not by how fast it could batch.",
                framework(&lane.lane),
                escape(&lane.lane.model),
                escape(parallel)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_analysis::testing::*;
    use benchd_core::record::Reading;
    use benchd_plan::ScenarioKind;

    #[test]
    fn what_differs_is_said_in_plain_words() {
        let lanes = [
            lane_id("vllm", "llama"),
            lane_id("sglang", "llama"),
            lane_id("ollama", "llama"),
        ];
        let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
        let mut b = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
        for lane in &lanes {
            b.ready(lane);
        }
        let mut summary = b.summary().expect("a summary");
        for (lane, (cache, context)) in
            summary
                .lanes
                .iter_mut()
                .zip([("True", "8192"), ("false", "8192"), ("?", "131072")])
        {
            lane.facts.insert("prefix_cache".to_owned(), cache.to_owned());
            lane.facts.insert("context_length".to_owned(), context.to_owned());
        }
        for (lane, [share, of, dtype]) in summary.lanes.iter_mut().zip([
            ["--gpu-memory-utilization", "0.85", "bf16"],
            ["--mem-fraction-static", "0.80", "fp8_e5m2"],
        ]) {
            lane.precision.kv_cache = Reading::read(Format::new(dtype), "--kv-cache-dtype");
            let server = lane.server.as_mut().expect("a server");
            server.argv.extend([share.to_owned(), of.to_owned()]);
        }
        let text = section(&summary);
        for said in [
            "**llama: the weights differ: bf16 in SGLang and vLLM, Q4_K_M in Ollama.**",
            "Weights of 4 bit take about a quarter of the memory of those of 16 bit",
            "**llama: the prefix cache is on in vllm, off in sglang.**",
            "8,192 tokens in sglang and vllm; 131,072 tokens in ollama",
            "bf16 in vllm; fp16 in ollama; fp8_e5m2 in sglang",
            "0.80 (`--mem-fraction-static`) in sglang; 0.85 (`--gpu-memory-utilization`) in vllm",
            "`OLLAMA_NUM_PARALLEL=1`",
        ] {
            assert!(
                text.replace("\\_", "_").contains(&said.replace("\\_", "_")),
                "{said}\n{text}"
            );
        }
        summary.lanes.truncate(1);
        summary.lanes[0]
            .facts
            .insert("prefix_cache".to_owned(), "on".to_owned());
        assert!(
            section(&summary).contains("Nothing in these"),
            "{}",
            section(&summary)
        );
        summary.lanes[0].facts.clear();
        assert_eq!(section(&summary), "");
    }
}
