//! What is known of each framework, one file each: its command line, environment, ready check, preload, cache
//! reset and the proof of it, request fields that it honours, facts that it tells, log patterns, quirks.
//!
//! All of it is plain data and pure functions; the daemon makes the calls. The only thing read from disk is a
//! model's files (see `config` and `weights`). A new framework is a name in `benchd_plan::FrameworkKind`, a file
//! here, and its line in [`kind`].
//!
//! ```text
//! kind      what is known of a kind             adapter    what is asked of one framework serving one model
//! setup     the plan's settings of a server     hub        Python servers of models in the hub's form
//! load_log  what logs say of the load           counters   a server's own figures
//! weights, gguf, demand, config   a model's files     precision   in which numbers it is served
//! harmony   the vocabulary that gpt-oss wants
//! metrics, facts, launch, request, compiled, args, error
//! ```

mod adapter;
mod args;
mod compiled;
mod config;
mod counters;
mod demand;
mod error;
mod facts;
mod gguf;
mod harmony;
mod hub;
mod kind;
mod last_words;
mod launch;
mod llama_server;
mod lmdeploy;
mod load_log;
mod metrics;
mod ollama;
mod openai;
mod precision;
mod request;
mod setup;
mod sglang;
#[cfg(test)]
mod testing;
mod vllm;
mod weights;

use std::collections::BTreeMap;

pub use adapter::{Adapter, Context, Endpoint, HttpProbe, Requirement, Server, VisibleGpu};
pub use args::arguments;
pub use compiled::CompileLine;
pub use config::looks_like_folder;
pub use counters::ServerFigures;
pub use demand::Demand;
pub use error::FrameworkError;
pub use facts::{Facts, KV_CAPACITY};
pub use harmony::{Vocabulary, vocabulary};
pub use hub::revision;
pub use kind::{Kind, ModelStore};
pub use launch::Launch;
pub use metrics::parse_metrics;
pub use request::ChatRequest;
pub use weights::{Absent, Found, Weights};

use benchd_core::record::{HttpCall, LoadFigures, Precision};
use benchd_plan::{Framework, FrameworkKind, Model, Pace, Source};
use kind::BehindUrl;
use setup::Setup;

/// What is known of a kind.
pub fn kind(kind: FrameworkKind) -> &'static Kind {
    match kind {
        FrameworkKind::Sglang => &sglang::KIND,
        FrameworkKind::Vllm => &vllm::KIND,
        FrameworkKind::Ollama => &ollama::KIND,
        FrameworkKind::Lmdeploy => &lmdeploy::KIND,
        FrameworkKind::Openai => &openai::KIND,
    }
}

/// What is known of the kind of this name.
pub fn named(name: &str) -> Option<&'static Kind> {
    FrameworkKind::named(name).map(kind)
}

fn kinds() -> impl Iterator<Item = &'static Kind> {
    FrameworkKind::ALL.iter().copied().map(kind)
}

/// Everything that is known of `framework` serving `model`.
///
/// # Errors
/// Where the plan asks for what the kind can't do, or gives a setting that benchd sets itself.
pub fn adapter(
    framework: &Framework,
    model: &Model,
    context: &Context,
) -> Result<Box<dyn Adapter>, FrameworkError> {
    (kind(framework.kind).adapter)(&Setup {
        framework,
        model,
        context,
        inherited: &|name| std::env::var(name).ok(),
    })
}

/// The type of the model that `framework` serves, as its configuration names it (`llama`, `gpt_oss`), or as its id tells
/// where that is not on disk; `None` where neither does.
pub fn model_type(framework: &Framework, model: &Model) -> Option<String> {
    let id = model.id_for(framework.kind)?;
    let env = |name: &str| {
        let set = framework.env.get(name).cloned();
        set.or_else(|| std::env::var(name).ok())
    };
    // Ollama's tags are no folders of the hub.
    let config = match kind(framework.kind).models {
        ModelStore::Hub => config::find(id, hub::revision_of(&arguments(framework, model)), &env),
        ModelStore::Own | ModelStore::File => None,
    };
    config::model_type(&[id, &model.name], config.as_ref())
}

/// The questions by which a server that someone else runs shows its kind, for [`behind_url`].
pub fn behind_url_calls() -> Vec<HttpCall> {
    tellers().map(|(_, _, path)| HttpCall::get(path)).collect()
}

fn tellers() -> impl Iterator<Item = (&'static Kind, &'static BehindUrl, &'static str)> {
    let known = kinds().filter_map(|kind| Some((kind, kind.behind_url.as_ref()?)));
    known.flat_map(|(kind, teller)| teller.paths.iter().map(move |path| (kind, teller, *path)))
}

/// A server behind a `url:` that showed its kind.
pub struct Recognised {
    /// The kind.
    pub kind: &'static Kind,
    /// What can be asked of it, as of a launched one.
    pub adapter: Box<dyn Adapter>,
}

/// What is known of a server behind a `url:` that shows itself to be of a known kind. `answers` holds, for each of [`behind_url_calls`] in order, the body of
/// its answer, or `None` where that was not a 200. `None` where no kind is told, or the URL has a path: kinds' calls go to
/// the root.
///
/// # Errors
/// Where the plan's URL or model is of no use.
pub fn behind_url(
    framework: &Framework,
    model: &Model,
    context: &Context,
    answers: &[Option<String>],
) -> Result<Option<Recognised>, FrameworkError> {
    let told = tellers()
        .zip(answers)
        .find(|((_, teller, _), answer)| answer.as_deref().is_some_and(teller.is));
    let Some(((kind, teller, _), _)) = told else {
        return Ok(None);
    };
    let setup = Setup {
        framework,
        model,
        context,
        inherited: &|_| None,
    };
    let server = openai::someone_elses(&setup)?;
    Ok(server.map(|server| Recognised {
        kind,
        adapter: (teller.adapter)(&setup, server),
    }))
}

/// Looks for the files that `framework` needs to serve `model`.
pub fn weights(framework: &Framework, model: &Model) -> Weights {
    (kind(framework.kind).weights)(framework, model, &|name| {
        let set = framework.env.get(name).cloned();
        set.or_else(|| std::env::var(name).ok())
    })
}

/// In which numbers `framework` serves `model`, by its settings and the model's files.
pub fn precision(framework: &Framework, model: &Model) -> Precision {
    // What is served by someone else the plan does not know.
    if matches!(framework.source, Source::Url(_)) {
        return Precision::default();
    }
    let mut precision = (kind(framework.kind).precision)(framework, model, &|name| {
        let set = framework.env.get(name).cloned();
        set.or_else(|| std::env::var(name).ok())
    });
    if precision.file_bytes.is_none()
        && precision.random_weights.value() == Some(&false)
        && let Weights::Whole(found) = weights(framework, model)
    {
        precision.file_bytes = Some(found.bytes);
    }
    precision
}

/// Settles in which numbers the running server serves `model`: by what it says in its answers (`facts`) and in `log`, its
/// output since its launch, and by [`precision`]; flags what the plan does not expect.
pub fn settle_precision(facts: &mut Facts, framework: &Framework, model: &Model, log: &str) {
    let settings = precision(framework, model);
    precision::settle(
        facts,
        read_log(log).precision(),
        settings,
        model.precision.as_deref(),
    );
}

/// What `framework` needs to serve the model found. `None` where it can't be told: a kind of which it is not known,
/// weights that are quantised or moved to the host as they are loaded.
pub fn demand(framework: &Framework, model: &Model, found: &Found) -> Option<Demand> {
    demand::demand(
        kind(framework.kind).reservation.as_ref()?,
        framework,
        model,
        found,
    )
}

/// Whether an argument sets the share of the GPU's memory that some kind reserves.
pub fn reserves_share(arg: &str) -> bool {
    let mut reservations = kinds().filter_map(|kind| kind.reservation.as_ref());
    reservations.any(|reservation| reservation.share_flag == arg)
}

/// How quick a framework's server is beside its answers.
pub fn pace(framework: &Framework) -> Pace {
    let kind = kind(framework.kind);
    let slots = |variable| {
        let set = framework.env.get(variable).and_then(|slots| slots.parse().ok());
        set.unwrap_or(1).max(1)
    };
    Pace {
        start: kind.start,
        cache_reset: kind.cache_reset,
        slots: kind.parallel_variable.map(slots),
    }
}

/// The figures in a server's output since its launch; empty where it says nothing. Where a server loads its model more
/// than once (Ollama), the newest load counts. Lines are known by their wording, not by the kind in the plan: a `command`
/// may start any server, and Ollama's runner writes what llama.cpp writes.
pub fn load_figures(log: &str) -> LoadFigures {
    read_log(log).figures()
}

fn read_log(log: &str) -> load_log::LoadLog {
    let mut told = load_log::LoadLog::default();
    for line in log.lines() {
        for kind in kinds() {
            (kind.load_line)(&mut told, line);
        }
    }
    told
}

/// The line of a dead server's output that says best why it died, of recent lines, oldest first; `None` where none speaks of
/// an error. Lines are known by their wording, as in [`load_figures`].
pub fn last_words<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = |line: &str| kinds().find_map(|kind| (kind.death_line)(line));
    last_words::best(lines.into_iter(), known)
}

/// The figures that a server's counters hold; nothing where they are of no known server.
pub fn server_figures(counters: &BTreeMap<String, f64>) -> ServerFigures {
    kinds()
        .map(|kind| &kind.counters)
        .find(|names| names.name(counters))
        .map(|names| names.figures(counters))
        .unwrap_or_default()
}

/// A framework as people write it: by its makers' name where it has a kind's, else as the plan does.
pub fn title(framework: &str) -> &str {
    named(framework).map_or(framework, |kind| kind.title)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use benchd_plan::{Assumptions, Only, estimate, lanes};

    /// A night: more than an hour, less than a day, and most of it Ollama's queue.
    #[test]
    fn the_a100_plan_takes_a_night() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plans/a100.yaml"));
        let plan = benchd_plan::load(path, &|_| Some("x".to_owned())).unwrap().plan;
        let lanes = lanes(&plan, &Only::default());
        let estimate = estimate(&plan, &lanes, &Assumptions::default(), pace);
        assert!(
            estimate.total > Duration::from_secs(3600) && estimate.total < Duration::from_secs(24 * 3600)
        );
        let ollama = estimate.lanes[2].total + estimate.lanes[6].total;
        assert!(ollama > estimate.total / 2, "{ollama:?} of {:?}", estimate.total);
    }

    /// By what the real servers answered (`tests/fixtures`).
    #[test]
    fn a_server_behind_a_url_is_told_by_what_it_answers() {
        let fixture = |path: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../tests/fixtures")
                .join(path);
            std::fs::read_to_string(path).unwrap()
        };
        let mut there = testing::framework(FrameworkKind::Openai);
        let told = |there: &Framework, path: &str, text: Option<String>| {
            let calls = behind_url_calls();
            let answers: Vec<Option<String>> = calls
                .iter()
                .map(|call| text.clone().filter(|_| call.path == path))
                .collect();
            let known = behind_url(there, &testing::llama(), &testing::context(), &answers).unwrap();
            known.map(|known| (known.kind.title, known.adapter))
        };
        there.source = benchd_plan::Source::Url("http://127.0.0.1:9000".to_owned());
        there.port = 9000;
        let vllm = Some(fixture("vllm-0.32.0/metrics.200.txt"));
        let (title, adapter) = told(&there, "/metrics", vllm.clone()).unwrap();
        assert_eq!(
            (title, adapter.endpoint().port, adapter.metrics_path()),
            ("vLLM", 9000, Some("/metrics"))
        );
        assert!(adapter.launch().is_none());
        assert!(matches!(
            adapter.cache_reset(),
            benchd_core::record::CacheReset::Http { .. }
        ));
        let flags = adapter.parse_facts(&[]).flags;
        assert_eq!(flags[0].kind, benchd_core::record::FlagKind::NotControlled);

        let sglang = Some(fixture("sglang-0.5.23/server-info.200.json"));
        for path in ["/get_server_info", "/server_info"] {
            assert_eq!(told(&there, path, sglang.clone()).unwrap().0, "SGLang");
        }
        let llamacpp =
            Some("# HELP llamacpp:prompt_tokens_total x\nllamacpp:prompt_tokens_total 3\n".to_owned());
        assert!(told(&there, "/metrics", llamacpp).is_none());
        assert!(told(&there, "/metrics", None).is_none());
        there.source = benchd_plan::Source::Url("http://127.0.0.1:9000/proxy".to_owned());
        assert!(
            told(&there, "/metrics", vllm).is_none(),
            "its calls would go to the root"
        );
    }

    #[test]
    fn the_short_plans_take_about_a_quarter_of_an_hour_a_model() {
        for name in ["a100-short", "rtx5090-short"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../plans/{name}.yaml"));
            let plan = benchd_plan::load(&path, &|_| None).unwrap().plan;
            let lanes = lanes(&plan, &Only::default());
            let estimate = estimate(&plan, &lanes, &Assumptions::default(), pace);
            let models = u32::try_from(plan.models.len()).unwrap();
            let each = estimate.total / models;
            let minutes = Duration::from_secs(12 * 60)..Duration::from_secs(19 * 60);
            assert!(minutes.contains(&each), "{name}: {each:?} a model");
        }
    }

    #[test]
    fn each_kind_is_told_by_its_counters() {
        let figures = |counters: &[(&str, f64)]| {
            server_figures(&counters.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect())
        };
        let vllm = figures(&[
            ("vllm:prompt_tokens_total", 310.0),
            ("vllm:generation_tokens_total", 80.0),
            ("vllm:time_to_first_token_seconds_sum", 0.75),
            ("vllm:time_to_first_token_seconds_count", 5.0),
        ]);
        assert_eq!(
            (vllm.prompt_tokens, vllm.output_tokens),
            (Some(310.0), Some(80.0))
        );
        assert_eq!((vllm.ttft_mean_ms, vllm.latency_mean_ms), (Some(150.0), None));

        let llamacpp = figures(&[
            ("llamacpp:prompt_tokens_total", 39.0),
            ("llamacpp:prompt_tokens_cached_total", 85.0),
            ("llamacpp:tokens_predicted_total", 32.0),
        ]);
        assert_eq!(
            llamacpp.prompt_tokens,
            Some(124.0),
            "cached ones are counted apart"
        );

        let ollama = figures(&[
            ("ollama:request_seconds_sum", 3.0),
            ("ollama:request_seconds_count", 2.0),
        ]);
        assert_eq!(
            (ollama.requests, ollama.latency_mean_ms),
            (Some(2.0), Some(1500.0))
        );
        assert_eq!(ollama.output_tokens, None);

        let idle = figures(&[
            ("sglang:time_to_first_token_seconds_sum", 0.0),
            ("sglang:time_to_first_token_seconds_count", 0.0),
        ]);
        assert_eq!(idle.ttft_mean_ms, None);
        assert_eq!(figures(&[("other_total", 1.0)]), ServerFigures::default());
    }
}
