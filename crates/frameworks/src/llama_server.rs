//! llama.cpp's `llama-server`, the likeliest server of a `command`, by b11434.
//!
//! - Its prompt cache: a slot keeps the tokens of its last prompt, and `POST /slots/N?action=erase` empties it, but only
//!   under `--slot-save-path` (501 without). Beside it lies a cache in host memory, on by default, that no call empties:
//!   after the erasure it gives the prompt back. So a reset needs `--cache-ram 0` as well.
//! - Its context is divided by its slots.

use std::{path::Path, time::Duration};

use super::{
    FrameworkError, Launch,
    args::{flag_value, has_flag},
    counters::CounterNames,
    load_log::{LoadLog, Part, after, count, size},
    setup::Setup,
};
use benchd_core::record::{CacheReset, Format, HttpCall, Reading, ResetProof, Step};

/// llama-server's counters.
pub(crate) const COUNTERS: &[&str] = &[
    "llamacpp:prompt_tokens_total",
    "llamacpp:prompt_tokens_cached_total",
    "llamacpp:prompt_seconds_total",
    "llamacpp:tokens_predicted_total",
    "llamacpp:tokens_predicted_seconds_total",
    "llamacpp:n_decode_total",
];

/// Its prompt counter holds what was computed; what came from its cache is counted apart (by builds that count it at
/// all: b11434 does). Its times are not here but in the `timings` of each answer.
pub(crate) const COUNTER_NAMES: CounterNames = CounterNames {
    prefix: "llamacpp:",
    requests: None,
    prompt_tokens: &[
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ],
    output_tokens: Some("llamacpp:tokens_predicted_total"),
    ttft: None,
    latency: None,
    tpot: None,
};

/// Serves metrics only with this.
pub(crate) const METRICS_FLAG: &str = "--metrics";

/// llama-server answers calls on its slots only with this.
const SLOT_ACTIONS: &str = "--slot-save-path";

/// Limit of emptying one slot.
const ERASE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a program is llama-server, by its name.
pub(crate) fn is_llama_server(program: &Path) -> bool {
    program.file_name().is_some_and(|file| file == "llama-server")
}

/// How llama-server's cache is emptied, where its arguments allow it.
pub(crate) fn cache_reset(launch: Option<&Launch>) -> CacheReset {
    let not_possible = |why: &str| CacheReset::NotPossible { why: why.to_owned() };
    let Some(launch) = launch else {
        return not_possible("no call that empties the cache is known of a server that someone else runs");
    };
    let args = &launch.args;
    if !has_flag(args, SLOT_ACTIONS) {
        return not_possible(if is_llama_server(&launch.program) {
            "llama-server empties its slots only under `--slot-save-path FOLDER --cache-ram 0 --parallel N`"
        } else {
            "no call that empties the cache is known of this server"
        });
    }
    if value(args, "--cache-ram", "-cram") != Some("0") {
        return not_possible(
            "llama-server keeps prompts in host memory too, which no call empties: `--cache-ram 0` switches that off",
        );
    }
    let Some(slots) = value(args, "--parallel", "-np").and_then(|slots| slots.parse::<u32>().ok()) else {
        return not_possible("how many slots llama-server has is not known: say it by `--parallel N`");
    };
    let erase = |slot: u32| {
        let mut step = Step::new(
            format!("empty slot {slot}"),
            HttpCall::post(format!("/slots/{slot}?action=erase")),
            ERASE_TIMEOUT,
        );
        step.fatal = vec![400, 404, 501];
        step.hint = "is it llama-server, with --slot-save-path?".to_owned();
        step
    };
    CacheReset::Http {
        steps: (0..slots).map(erase).collect(),
        proof: ResetProof::CachedTokens,
    }
}

/// Refuses a context that surely is too short for the lane.
///
/// # Errors
/// Where it is.
pub(crate) fn check_context(setup: &Setup<'_>, args: &[String]) -> Result<(), FrameworkError> {
    match flag_value(args, "--ctx-size") {
        // Divided by the slots; 0 means the model's own.
        Some(tokens) if !has_flag(args, "--parallel") && tokens != "0" => {
            setup.check_context("--ctx-size", tokens)
        }
        _ => Ok(()),
    }
}

/// `load_tensors:        CUDA0 model buffer size =  4403.49 MiB`; llama-server writes buffers only with more than its
/// usual words.
pub(crate) fn load_line(told: &mut LoadLog, line: &str) {
    for (what, part) in [
        (" model buffer size", Part::Weights),
        (" KV buffer size", Part::KvCache),
        (" compute buffer size", Part::Compute),
    ] {
        if let Some((before, rest)) = line.split_once(what) {
            let device = before.rsplit([' ', '\t']).next().unwrap_or_default();
            told.add(part, device, after(rest, "=").and_then(size));
            return;
        }
    }
    // "llama_kv_cache: size =  78.75 MiB (  3584 cells,  30 layers,  4/1 seqs)": cells of each of so many streams;
    // before it was "llama_kv_cache_unified: kv_size = 3584, …". A cache with sliding windows has a second, smaller
    // one: the first holds the whole context.
    if line.contains("llama_kv_cache") {
        let cells = if let Some((before, rest)) = line.split_once(" cells,") {
            let cells = before
                .rsplit([' ', '('])
                .next()
                .and_then(|n| n.parse::<u64>().ok());
            let streams = after(rest, "/").and_then(count).unwrap_or(1);
            cells.and_then(|cells| cells.checked_mul(streams))
        } else {
            after(line, "kv_size = ").and_then(count)
        };
        told.first_tokens(cells);
    }
    // "print_info: file type   = Q4_K - Medium"; "llama_kv_cache: size = …, K (f16): 39.38 MiB, V (f16): 39.38 MiB".
    if let Some(rest) = after(line, "print_info: file type").and_then(|rest| after(rest, "=")) {
        told.weights_in(&format_name(rest));
    }
    let half = |name: &str| after(line, name).and_then(|rest| rest.split(')').next());
    if line.contains("llama_kv_cache")
        && let (Some(keys), Some(values)) = (half(" K ("), half(" V ("))
    {
        told.cache_in(&cache_name(keys, values));
    }
    // "0.00.007.521 I srv    load_model: loading model '…'" to "0.00.773.850 I srv  llama_server: model loaded"
    // ("srv          init: model loaded" where the server runs inside Python, by xllamacpp).
    if line.contains("load_model: loading model") {
        told.began(clock_ms(line));
    } else if line.contains("llama_server: model loaded") || line.contains(" init: model loaded") {
        told.ended(clock_ms(line));
    }
}

/// A file's type as llama.cpp writes it, `Q4_K - Medium`, in its short form: `Q4_K_M`.
pub(crate) fn format_name(told: &str) -> String {
    // It says so where the file names none: before the type, or in older versions behind it.
    let told = told
        .trim()
        .trim_start_matches("(guessed) ")
        .trim_end_matches(" (guessed)");
    match told.split_once(" - ") {
        Some((name, mix)) => format!("{name}_{}", &mix[..mix.chars().next().map_or(0, char::len_utf8)]),
        None => told.to_owned(),
    }
}

/// The format of a cache whose keys and values are kept in formats of their own.
fn cache_name(keys: &str, values: &str) -> String {
    if keys == values {
        keys.to_owned()
    } else {
        format!("{keys}/{values}")
    }
}

/// The format of its KV cache by its arguments; `f16` by default, where it is known to be llama-server.
pub(crate) fn cache_format(args: &[String], is_llama_server: bool) -> Reading<Format> {
    let of = |long: &str, short: &str| value(args, long, short).map(str::to_owned);
    let (keys, values) = (of("--cache-type-k", "-ctk"), of("--cache-type-v", "-ctv"));
    if keys.is_none() && values.is_none() {
        let default = is_llama_server.then(|| Format::new("f16"));
        return Reading::maybe(default, "llama-server's default");
    }
    let default = || "f16".to_owned();
    let name = cache_name(&keys.unwrap_or_else(default), &values.unwrap_or_else(default));
    Reading::read(Format::new(&name), "--cache-type-k, --cache-type-v")
}

/// The value of an argument that has a short name with one dash, too.
pub(crate) fn value<'a>(args: &'a [String], long: &str, short: &str) -> Option<&'a str> {
    let short = args.iter().rposition(|arg| arg == short);
    flag_value(args, long).or_else(|| args.get(short? + 1).map(String::as_str))
}

/// llama-server's own clock, `0.00.773.850`: minutes, seconds, milliseconds, microseconds.
fn clock_ms(line: &str) -> Option<u64> {
    line.split(' ').take(5).find_map(|word| {
        let parts: Vec<u64> = word.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        match parts.as_slice() {
            &[minutes, seconds, millis, _] => minutes
                .checked_mul(60_000)?
                .checked_add(seconds.checked_mul(1000)?)?
                .checked_add(millis),
            _ => None,
        }
    })
}
