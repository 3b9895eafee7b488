//! Models: each has an id for every kind of framework that serves it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::{At, Checker};
use crate::{
    Framework, FrameworkKind, Model, Source,
    diagnostic::KeyPath,
    kind::{ModelIdKey, SourceKeys, names},
    name::nearest,
    raw::{RawModel, RawPlan},
};

impl Checker<'_> {
    pub(super) fn models(&mut self, raw: Option<&IndexMap<String, RawModel>>) -> IndexMap<String, Model> {
        let mut out = IndexMap::new();
        for (name, raw) in raw.into_iter().flatten() {
            let path = KeyPath::of(&["models", name]);
            for (key, id) in [("hf", &raw.hf), ("ollama", &raw.ollama), ("openai", &raw.openai)] {
                let Some(id) = id else { continue };
                let odd = id.starts_with('-') || id.chars().any(|c| c.is_whitespace() || c.is_control());
                if odd {
                    let message = format!("`{id}` can't be a model's id");
                    self.problem(
                        At::Value,
                        &path.key(key),
                        message,
                        Some("an id holds no spaces and doesn't start with `-`"),
                    );
                }
            }
            let args = self.model_args(&path.key("args"), raw.args.as_ref());
            let model = Model {
                name: name.clone(),
                hf: raw.hf.clone(),
                ollama: raw.ollama.clone(),
                openai: raw.openai.clone(),
                tokenizer: self.file(&path.key("tokenizer"), raw.tokenizer.as_ref()),
                gguf: self.file(&path.key("gguf"), raw.gguf.as_ref()),
                reasoning_effort: raw.reasoning_effort,
                precision: raw.precision.clone(),
                args,
                not_on: self.not_on(&path.key("not_on"), raw.not_on.as_ref()),
            };
            out.insert(name.clone(), model);
        }
        out
    }

    /// A key that names frameworks, by name or by kind.
    fn framework_or_kind(&mut self, path: &KeyPath, name: &str) {
        let kinds = names(|kind| Some(kind.to_string()));
        let mut known = self.names("frameworks");
        known.extend(kinds.iter().cloned());
        if known.iter().any(|known| known == name) {
            return;
        }
        let help = match nearest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("name a framework of the plan, or a kind: {}", kinds.join(", ")),
        };
        self.problem(
            At::Key,
            path,
            format!("there is no framework or kind `{name}`"),
            Some(&help),
        );
    }

    fn not_on(&mut self, path: &KeyPath, raw: Option<&IndexMap<String, String>>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (name, reason) in raw.into_iter().flatten() {
            let here = path.key(name);
            self.framework_or_kind(&here, name);
            out.insert(name.clone(), reason.trim().to_owned());
        }
        out
    }

    fn model_args(
        &mut self,
        path: &KeyPath,
        raw: Option<&IndexMap<String, Vec<String>>>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut out = BTreeMap::new();
        for (name, args) in raw.into_iter().flatten() {
            let here = path.key(name);
            self.framework_or_kind(&here, name);
            let by_command = self
                .tree
                .at(&KeyPath::of(&["frameworks", name, "command"]))
                .is_some()
                || FrameworkKind::named(name)
                    .is_some_and(|kind| kind.source_keys() == SourceKeys::CommandOrUrl);
            self.arguments(&here, args, by_command);
            out.insert(name.clone(), args.clone());
        }
        out
    }

    /// Every framework serves every model, but for those that the plan leaves out.
    pub(super) fn models_for_frameworks(
        &mut self,
        raw: &RawPlan,
        models: &IndexMap<String, Model>,
        frameworks: &IndexMap<String, Framework>,
    ) {
        // By raw kind too, so that a framework with another problem is still counted.
        let mut by_kind: IndexMap<FrameworkKind, Vec<&str>> = IndexMap::new();
        for (name, framework) in raw.frameworks.iter().flatten() {
            if let Some(kind) = Self::framework_kind(name, framework) {
                by_kind.entry(kind).or_default().push(name);
            }
        }
        for (name, model) in models {
            let path = KeyPath::of(&["models", name]);
            for (kind, users) in &by_kind {
                let serves = |user: &&&str| {
                    !model.not_on.contains_key(**user) && !model.not_on.contains_key(kind.as_str())
                };
                if !users.iter().any(|user| serves(&user)) {
                    continue;
                }
                let id = kind.model_id_key();
                let key = id.as_str();
                // An `openai` server may also take the hub id.
                let hub_id_will_do = id == ModelIdKey::Openai && self.written(&path.key("hf"));
                let absent = !hub_id_will_do && !self.written(&path.key(key));
                if model.id_for(*kind).is_none() && absent {
                    let users = users
                        .iter()
                        .map(|u| format!("`{u}`"))
                        .collect::<Vec<_>>()
                        .join(", ");
                    let message =
                        format!("model `{name}` has no `{key}`, the id under which {users} would serve it");
                    self.problem(
                        At::Key,
                        &path,
                        message,
                        Some(&format!("add `{key}:` to the model")),
                    );
                }
            }
            self.gguf_for_commands(&path, model, frameworks);
        }
    }

    fn gguf_for_commands(&mut self, path: &KeyPath, model: &Model, frameworks: &IndexMap<String, Framework>) {
        if self.written(&path.key("gguf")) {
            return;
        }
        for framework in frameworks.values() {
            let Source::Command { command, .. } = &framework.source else {
                continue;
            };
            if command
                .iter()
                .chain(&framework.args)
                .any(|part| part.contains("{gguf}"))
            {
                let message = format!(
                    "model `{}` has no `gguf`, but `{}`'s command fills in `{{gguf}}`",
                    model.name, framework.name
                );
                self.problem(
                    At::Key,
                    path,
                    message,
                    Some("add `gguf:` with the path of the file"),
                );
            }
        }
    }
}
