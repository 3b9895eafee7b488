//! How the servers came and went, what they hold when idle, what they burn, what they take on disk.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{super::number::*, Table, escape, framework};
use benchd_analysis::{LaneSummary, RunSummary, ServerSummary};
use benchd_core::{
    format::list,
    record::{LoadFigures, Warmth},
};

/// What stands where a server's log says nothing of it.
const NOT_SAID: &str = "not said";

pub(super) fn section(summary: &RunSummary) -> String {
    let mut text = format!("## Operations\n\n{}", servers(summary));
    let compiled = compiled(summary);
    if !compiled.is_empty() {
        text.push_str(&format!("\n### Cold and warm starts\n\n{compiled}"));
    }
    let memory = memory(summary);
    if !memory.is_empty() {
        text.push_str(&format!("\n### Memory when idle\n\n{memory}"));
    }
    text.push_str(&format!("\n### Energy and size\n\n{}", costs(summary)));
    text
}

/// Start and stop of each server.
fn servers(summary: &RunSummary) -> String {
    let mut table = Table::new([
        "framework",
        "model",
        "lane",
        ">attempts",
        ">weights loaded in",
        ">healthy after",
        ">first answer after",
        ">stopped in",
        "exit",
        ">swept",
        ">memory back after",
    ]);
    for lane in &summary.lanes {
        let s = lane.server.as_ref();
        let killed = s.and_then(|s| s.killed).unwrap_or(false);
        let exit = s.and_then(|s| s.exit.as_deref()).map_or(NONE.to_owned(), escape);
        let release = match s {
            Some(s) if s.held.is_some() => "**not back**".to_owned(),
            s => millis(s.and_then(|s| s.release_ms)),
        };
        table.row([
            framework(&lane.lane),
            escape(&lane.lane.model),
            lane.outcome.clone(),
            attempts(lane),
            load_time(s),
            millis(s.and_then(|s| s.healthy_ms)),
            millis(s.and_then(|s| s.ready_ms)),
            millis(s.and_then(|s| s.stop_ms)),
            if killed {
                format!("{exit}, killed after the grace")
            } else {
                exit
            },
            s.and_then(|s| s.swept).map_or(NONE.to_owned(), count),
            release,
        ]);
    }
    format!(
        "{table}\nTimes count from the launch; the stop from the first signal to the end of the last process, the memory's \
         return from there. How long the weights took to load is the server's own figure: of vLLM and SGLang for reading and \
         placing them, of Ollama and llama-server for the model to be ready.\n"
    )
}

/// How often the lane was begun; more than once need not be the framework's doing.
fn attempts(lane: &LaneSummary) -> String {
    let mut why = Vec::new();
    if lane.cut_off > 0 {
        why.push(format!(
            "{} cut off: benchd was killed and the run went on",
            count(lane.cut_off.into())
        ));
    }
    if lane.interrupted > 0 {
        why.push(format!("{} interrupted", count(lane.interrupted.into())));
    }
    match &why[..] {
        [] => count(lane.attempts.into()),
        why => format!("{} ({})", count(lane.attempts.into()), why.join(", ")),
    }
}

/// Whether the servers found compiled what they needed: it decides how long their starts took.
fn compiled(summary: &RunSummary) -> String {
    let mut text = String::new();
    let mut unknown = Vec::new();
    let mut seen = BTreeSet::new();
    for lane in &summary.lanes {
        let name = format!("{} / {}", framework(&lane.lane), escape(&lane.lane.model));
        let Some(caches) = lane.server.as_ref().and_then(|s| s.compile_caches.as_ref()) else {
            unknown.push(name);
            continue;
        };
        let warmth = caches.warmth();
        let (before, new) = (count(caches.files_before()), count(caches.files_new()));
        let files = format!("files in its compile caches before: {before}, new ones: {new}");
        let said = match (caches.loaded_lines > 0, caches.compiled_lines > 0) {
            (false, false) => "",
            (true, false) => "; its log says that it loaded them",
            (false, true) => "; its log says that it compiled",
            (true, true) => "; its log says that it loaded some and compiled some",
        };
        let word = match warmth {
            Warmth::Cold => "cold start",
            Warmth::Warm => "warm start",
            Warmth::Partly => "partly warm start",
            Warmth::NothingSeen => {
                let _ = writeln!(
                    text,
                    "- {name}: **not seen**: nothing was in the folders that are known of it, and nothing came. It compiled \
                     nothing, or it keeps it elsewhere (a wrapper may say where)"
                );
                continue;
            }
        };
        seen.insert(warmth);
        let _ = writeln!(text, "- {name}: **{word}** ({files}{said})");
    }
    if text.is_empty() {
        return text;
    }
    if !unknown.is_empty() {
        let _ = writeln!(text, "- not known: {}", unknown.join(", "));
    }
    let unlike = if seen.len() > 1 {
        " Here they are not alike: the times of these starts can't be compared as they stand."
    } else {
        ""
    };
    format!(
        "What vLLM and SGLang compiled is kept from lane to lane and from night to night, and makes the next start quicker; \
         nothing that is measured includes it.{unlike}\n\n{text}"
    )
}

/// A figure of the log: "not said" where the log has none, a dash where nobody read it.
fn said(server: Option<&ServerSummary>, show: impl FnOnce(&LoadFigures) -> Option<String>) -> String {
    match server.and_then(|s| s.load.as_ref()) {
        Some(load) => show(load).unwrap_or_else(|| NOT_SAID.to_owned()),
        None => NONE.to_owned(),
    }
}

pub(super) fn load_time(server: Option<&ServerSummary>) -> String {
    said(server, |load| load.load_ms.map(|ms| millis(Some(ms))))
}

pub(super) fn weights(server: Option<&ServerSummary>) -> String {
    said(server, |load| Some(megabytes(load.weights_bytes? as f64)))
}

pub(super) fn kv_cache(server: Option<&ServerSummary>) -> String {
    said(server, |load| Some(megabytes(load.kv_cache_bytes? as f64)))
}

pub(super) fn idle(server: Option<&ServerSummary>) -> String {
    server
        .and_then(|s| s.gpu_idle_bytes)
        .map_or(NONE.to_owned(), |b| megabytes(b as f64))
}

/// What of the idle memory is neither weights nor KV cache.
pub(super) fn rest(server: Option<&ServerSummary>) -> String {
    match server {
        Some(s) if s.gpu_idle_bytes.is_some() && s.load.is_some() => s
            .gpu_rest_bytes
            .map_or(NOT_SAID.to_owned(), |b| megabytes(b as f64)),
        _ => NONE.to_owned(),
    }
}

pub(super) fn energy_per_token(lane: &LaneSummary) -> String {
    optional(lane.energy.as_ref().map(|e| e.j_per_output_token))
}

/// What each server holds when ready and idle. Empty where nothing at all is known: no GPU, and no server said anything.
fn memory(summary: &RunSummary) -> String {
    let mut table = Table::new([
        "framework",
        "model",
        ">idle GPU memory (MB)",
        ">weights (MB)",
        ">KV cache (MB)",
        ">the rest (MB)",
        ">graphs, buffers (MB)",
        ">KV cache (tokens)",
    ]);
    let mut on_host = Vec::new();
    for lane in &summary.lanes {
        let s = lane.server.as_ref();
        let load = s.and_then(|s| s.load.as_ref());
        if s.is_none_or(|s| s.gpu_idle_bytes.is_none())
            && load.is_none_or(|load| load.weights_bytes.is_none() && load.kv_cache_bytes.is_none())
        {
            continue;
        }
        if load.is_some_and(|load| load.on_host) && !on_host.contains(&framework(&lane.lane)) {
            on_host.push(framework(&lane.lane));
        }
        let tokens = load
            .and_then(|load| load.kv_cache_tokens)
            .or_else(|| lane.facts.get(benchd_frameworks::KV_CAPACITY)?.parse().ok());
        table.row([
            framework(&lane.lane),
            escape(&lane.lane.model),
            idle(s),
            weights(s),
            kv_cache(s),
            rest(s),
            said(s, |load| Some(megabytes(load.compute_bytes? as f64))),
            match tokens {
                Some(tokens) => count(tokens),
                None => said(s, |_| None),
            },
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let host = if on_host.is_empty() {
        String::new()
    } else {
        format!(
            " {} named no GPU: weights and KV cache lie in the host's memory.",
            list(&on_host)
        )
    };
    format!(
        "{table}\nIdle GPU memory is what the server holds when ready, above the baseline, by the driver. Weights, KV cache and \
         graphs with buffers are what its log says at the start; \"{NOT_SAID}\" where it says nothing of it, a dash where there is no log. The rest is idle \
         memory less weights and KV cache: the graphs and buffers are in it, the CUDA context and the allocator's reserve too. \
         vLLM and SGLang reserve a fraction of the device whatever they need: their KV cache is a capacity, no measure of \
         the model's need.{host}\n"
    )
}

/// Energy over the measured cells, and the environment on disk.
fn costs(summary: &RunSummary) -> String {
    let mut table = Table::new([
        "framework",
        "model",
        ">energy (J)",
        ">output tokens",
        ">J/output token",
        ">cells",
        ">environment (MB)",
        ">installed in",
    ]);
    let (mut short, mut alone) = (0, Vec::new());
    for lane in &summary.lanes {
        let energy = lane.energy.as_ref();
        let of_cells = || lane.cells.iter().filter_map(|c| c.gpu.as_ref()?.energy_certain);
        short += of_cells().filter(|certain| !certain).count();
        if energy.is_none() && of_cells().any(|certain| certain) {
            alone.push(format!(
                "{} / {}",
                framework(&lane.lane),
                escape(&lane.lane.model)
            ));
        }
        let environment = summary
            .info
            .as_ref()
            .and_then(|info| info.environments.get(&lane.lane.framework));
        table.row([
            framework(&lane.lane),
            escape(&lane.lane.model),
            optional(energy.map(|e| e.energy_j)),
            energy.map_or(NONE.to_owned(), |e| count(e.output_tokens)),
            energy_per_token(lane),
            energy.map_or(NONE.to_owned(), |e| count(e.cells.into())),
            environment
                .and_then(|e| e.bytes)
                .map_or(NONE.to_owned(), |b| megabytes(b as f64)),
            millis(environment.and_then(|e| e.install_ms)),
        ]);
    }
    let mut left_out = String::new();
    if short > 0 {
        let _ = write!(
            left_out,
            " {} too short for the samples (a second and ten samples are needed) and left out; `~` marks their energy elsewhere.",
            match short {
                1 => "1 cell is".to_owned(),
                n => format!("{} cells are", count(n as u64)),
            }
        );
    }
    if !alone.is_empty() {
        let names = list(&alone);
        let _ = write!(left_out, " Too few cells in common with the others: {names}.");
    }
    format!(
        "{table}\nEnergy is that of the whole GPU over the cells that the lanes of a model have in common, warm-up left out.{left_out} \
         The environment is what the framework runs from, models left out; how long its recipe took is known where \
         `benchd env` made it.\n"
    )
}
