//! The roles of the document's hypotheses, and the frameworks of a plan that take them.

use benchd_frameworks::kind;
use benchd_plan::{Framework, FrameworkKind, Plan};

/// A framework as people write it.
pub fn shown(framework: &str) -> &str {
    benchd_frameworks::title(framework)
}

/// What a framework of the plan stands for in the document's hypotheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sglang,
    Vllm,
    Ollama,
    /// vLLM without its prefix cache.
    Control,
}

impl Role {
    /// The key under `roles:`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Sglang => "sglang",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::Control => "control",
        }
    }

    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Sglang => "SGLang",
            Self::Vllm => "vLLM",
            Self::Ollama => "Ollama",
            Self::Control => "vLLM without its prefix cache",
        }
    }
}

/// Which framework stands for which role: as the plan says, else the first framework of the kind (the control: without its prefix
/// cache; the others: with it), else a framework of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoleFrameworks<'a> {
    pub(super) sglang: Option<&'a str>,
    pub(super) vllm: Option<&'a str>,
    pub(super) ollama: Option<&'a str>,
    pub(super) control: Option<&'a str>,
}

impl<'a> RoleFrameworks<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let roles = &plan.hypotheses.roles;
        let all = || plan.frameworks.values();
        let first = |fits: &dyn Fn(&Framework) -> bool| all().find(|f| fits(f)).map(|f| f.name.as_str());
        let taken: Vec<&str> = [&roles.sglang, &roles.vllm, &roles.ollama, &roles.control]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let without_prefix_cache = |f: &Framework| (kind(f.kind).prefix_cache_disabled)(f);
        let by_kind = |wanted: FrameworkKind| {
            let free = |f: &Framework| !taken.contains(&f.name.as_str());
            first(&|f| f.kind == wanted && free(f) && !without_prefix_cache(f))
                .or_else(|| first(&|f| f.name == wanted.as_str() && free(f)))
        };
        let control = || {
            first(&|f| {
                f.kind == FrameworkKind::Vllm && !taken.contains(&f.name.as_str()) && without_prefix_cache(f)
            })
        };
        Self {
            sglang: roles.sglang.as_deref().or_else(|| by_kind(FrameworkKind::Sglang)),
            vllm: roles.vllm.as_deref().or_else(|| by_kind(FrameworkKind::Vllm)),
            ollama: roles.ollama.as_deref().or_else(|| by_kind(FrameworkKind::Ollama)),
            control: roles.control.as_deref().or_else(control),
        }
    }

    pub(super) fn get(&self, role: Role) -> Option<&'a str> {
        match role {
            Role::Sglang => self.sglang,
            Role::Vllm => self.vllm,
            Role::Ollama => self.ollama,
            Role::Control => self.control,
        }
    }

    /// Whether no role is taken: a plan about something else.
    pub(super) fn is_empty(&self) -> bool {
        self.sglang.is_none() && self.vllm.is_none() && self.ollama.is_none()
    }

    /// A role's framework as people write it, else the role's own name.
    pub(super) fn name(&self, role: Role) -> &'a str {
        self.get(role).map_or(role.shown(), shown)
    }
}
