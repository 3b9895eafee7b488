//! Models: on disk, whole, and small enough.

use std::{collections::BTreeSet, path::Path};

use super::{
    finding::{Area, Finding, size},
    gpu,
};
use benchd_core::record::{Format, Precision, Reading};
use benchd_frameworks::{self, Absent, ModelStore, Weights, kind};
use benchd_plan::{Framework, Lane, Model, Plan, heaviest_load, longest_prompt_tokens};

/// What is known of the machine's memory, bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Of each chosen GPU; empty without one.
    pub(super) gpus: Vec<u64>,
    /// Of the host, that is free for servers.
    pub(super) host_available: Option<u64>,
}

pub(super) fn look(plan: &Plan, plan_path: &Path, lanes: &[Lane], memory: &Memory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for lane in lanes {
        let (Some(framework), Some(model)) = (
            plan.frameworks.get(&lane.id.framework),
            plan.models.get(&lane.id.model),
        ) else {
            continue;
        };
        let weights = benchd_frameworks::weights(framework, model);
        let on_disk = presence(framework, model, &weights, plan_path);
        // Two frameworks that read the same files say it once; rounds of a lane, too.
        findings.extend(on_disk.filter(|finding| seen.insert(finding.text.clone())));
        let served = benchd_frameworks::precision(framework, model);
        let doubts = precision(framework, model, &served);
        findings.extend(
            doubts
                .into_iter()
                .filter(|finding| seen.insert(finding.text.clone())),
        );
        if let Weights::Whole(found) = &weights
            && let Some(fit) = fit(framework, model, lane, lanes, found, memory)
        {
            findings.extend(Some(fit).filter(|finding| seen.insert(finding.text.clone())));
        }
    }
    findings
}

/// The plan's own questions: read once before the night.
pub(super) fn questions(plan: &Plan) -> Option<Finding> {
    let file = plan.quality.as_ref()?.file.as_deref()?;
    Some(match benchd_prompts::read_questions(file) {
        Ok(count) => Finding::ok(Area::Model, format!("{}: {count} questions", file.display())),
        Err(error) => Finding::stop(Area::Model, format!("`quality.file`: {error}"), error.hint()),
    })
}

/// Whether the models that lie on this machine fit GPUs with these memories, bytes; those that don't lie here are named.
pub(super) fn fits(plan: &Plan, lanes: &[Lane], gpus: &[u64]) -> Vec<Finding> {
    let memory = Memory {
        gpus: gpus.to_vec(),
        host_available: None,
    };
    let mut findings = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut absent: Vec<String> = Vec::new();
    for lane in lanes {
        let (Some(framework), Some(model)) = (
            plan.frameworks.get(&lane.id.framework),
            plan.models.get(&lane.id.model),
        ) else {
            continue;
        };
        let told = match benchd_frameworks::weights(framework, model) {
            Weights::Whole(found) => fit(framework, model, lane, lanes, &found, &memory),
            Weights::Absent(Absent { id, .. }) => {
                if !absent.contains(&id) {
                    absent.push(id);
                }
                None
            }
            Weights::Damaged { .. } | Weights::NotKnown => None,
        };
        findings.extend(told.filter(|finding| seen.insert(finding.text.clone())));
    }
    if !absent.is_empty() {
        findings.push(Finding::note(
            Area::Model,
            format!(
                "not on this machine, so whether it fits that GPU is not judged: {}",
                absent.join(", ")
            ),
        ));
    }
    findings
}

fn presence(framework: &Framework, model: &Model, weights: &Weights, plan_path: &Path) -> Option<Finding> {
    let name = &model.name;
    let store = kind(framework.kind).models;
    let fetch = format!("fetch it: benchd env {}", plan_path.display());
    Some(match weights {
        Weights::NotKnown => return None,
        // `--load-format dummy`: the server makes them up.
        Weights::Whole(found) if found.bytes == 0 => Finding::note(
            Area::Model,
            format!(
                "{name}: no weights are read, only configuration and tokenizer at {}",
                found.path.display()
            ),
        ),
        Weights::Whole(found) => Finding::ok(
            Area::Model,
            format!(
                "{name}: {} of {}{} at {}",
                size(found.bytes),
                found.format,
                found
                    .precision
                    .value()
                    .map(|format| format!(" ({format})"))
                    .unwrap_or_default(),
                found.path.display()
            ),
        ),
        Weights::Damaged { folder, wrong } => Finding::lose(
            Area::Model,
            format!("{name}: {} is not whole: {}", folder.display(), wrong.join("; ")),
            if store == ModelStore::File {
                format!("fetch the file again, or correct models.{name}.gguf")
            } else {
                fetch
            },
        ),
        // The plan's own files are looked for with the environments.
        Weights::Absent(Absent { fetchable: false, .. }) if store != ModelStore::Hub => return None,
        Weights::Absent(Absent {
            id,
            looked,
            fetchable,
        }) => {
            let place = looked
                .as_ref()
                .map(|path| format!(" ({})", path.display()))
                .unwrap_or_default();
            let text = format!("{name}: {id} is not on this machine{place}");
            let remedy = match (fetchable, store) {
                (false, _) => format!(
                    "put it there, or correct models.{name} in {}",
                    plan_path.display()
                ),
                (true, ModelStore::Own) => fetch,
                (true, _) if has_hub_token() => fetch,
                (true, _) => format!(
                    "{fetch}; where its licence must be accepted first (https://huggingface.co/{id}), set HF_TOKEN"
                ),
            };
            Finding::lose(Area::Model, text, remedy)
        }
    })
}

/// What is served in other numbers than the plan expects, or made up.
fn precision(framework: &Framework, model: &Model, served: &Precision) -> Vec<Finding> {
    let lane = format!("{} / {}", framework.name, model.name);
    let mut findings = Vec::new();
    if let (Some(expected), Reading::Read { value, from }) = (&model.precision, &served.weights)
        && *value != Format::new(expected)
    {
        findings.push(Finding::warn(
            Area::Model,
            format!(
                "{lane}: the weights are {value} ({from}); the plan expects {}",
                Format::new(expected)
            ),
            format!("serve other weights, or correct models.{}.precision", model.name),
        ));
    }
    if served.random_weights.value() == Some(&true) {
        findings.push(Finding::note(
            Area::Model,
            format!("{lane}: random weights: answers mean nothing, speed only"),
        ));
    }
    findings
}

/// Whether a token of the hub is at hand: in the environment, or as its own login stores it.
fn has_hub_token() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || {
        set("HF_HOME").map(std::path::PathBuf::from).or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(std::path::PathBuf::from);
            let cache = cache.or_else(|| Some(std::path::PathBuf::from(set("HOME")?).join(".cache")));
            cache.map(|cache| cache.join("huggingface"))
        })
    };
    set("HF_TOKEN").is_some()
        || set("HUGGING_FACE_HUB_TOKEN").is_some()
        || home().is_some_and(|home| home.join("token").is_file())
}

/// Whether the model fits the GPUs, or the host where there are none.
fn fit(
    framework: &Framework,
    model: &Model,
    lane: &Lane,
    lanes: &[Lane],
    found: &benchd_frameworks::Found,
    memory: &Memory,
) -> Option<Finding> {
    let name = format!("{} / {}", framework.name, model.name);
    if memory.gpus.is_empty() {
        let available = memory.host_available?;
        return (found.bytes > available).then(|| {
            Finding::lose(
                Area::Model,
                format!(
                    "{name}: the weights take {}, the host has {} free",
                    size(found.bytes),
                    size(available)
                ),
                "take a smaller model, or end what uses the memory",
            )
        });
    }
    let kind = kind(framework.kind);
    if let Some(share) = kind.whole_on_gpu_share {
        let total: u64 = memory.gpus.iter().sum();
        let budget = (total as f64 * share) as u64;
        return (found.bytes > budget).then(|| {
            Finding::lose(
                Area::Model,
                format!(
                    "{name}: the weights take {}, the GPU has {}: {} would compute a part on the CPU",
                    size(found.bytes),
                    size(total),
                    kind.title
                ),
                "take a smaller model or a smaller quantisation",
            )
        });
    }
    let demand = benchd_frameworks::demand(framework, model, found)?;
    let load = gpu::Load {
        lane: &name,
        model: &model.name,
        kind: framework.kind.as_str(),
        longest_tokens: longest_prompt_tokens(lanes, &model.name),
        heaviest: heaviest_load(lane)?,
    };
    Some(gpu::memory(load, &demand, &memory.gpus))
}
