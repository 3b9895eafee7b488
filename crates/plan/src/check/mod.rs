//! What a plan means: from the raw structs to the checked [`Plan`], or all that is wrong with it.
//!
//! Each check takes the raw value, puts its problems on the list and gives the checked value where there is one.
//! A value that is absent because the walk has already refused it is no problem of its own.

mod framework;
mod hypotheses;
mod model;
mod scenario;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use super::{
    DeviceSelector, Expect, GpuSelection, Host, Notify, Order, Plan, Quality, RequestSettings,
    diagnostic::{KeyPath, Problem},
    name::check_name,
    raw::{RawExpect, RawHost, RawPlan, RawRequest},
    shapes::RawDevice,
    spanned::Node,
    values::{DurationText, EnvText},
};

/// What the environment put into a plan: never to be shown, logged or stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    env: BTreeSet<(String, String)>,
    values: BTreeSet<String>,
}

impl Secrets {
    /// Whether this variable of this framework's server environment was filled in from benchd's own.
    pub fn is_secret_env(&self, framework: &str, variable: &str) -> bool {
        self.env.contains(&(framework.to_owned(), variable.to_owned()))
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// The text with every secret value in it replaced. Values of fewer than four characters are left: they would
    /// replace half of any text, and are no secrets.
    pub fn redact(&self, text: &str) -> String {
        // The longest first, as one secret may hold another.
        let mut values: Vec<&String> = self.values.iter().filter(|v| v.chars().count() >= 4).collect();
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        values.into_iter().fold(text.to_owned(), |text, value| {
            text.replace(value.as_str(), "<secret>")
        })
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets(<{}>)", self.values.len())
    }
}

/// Checks a plan's meaning.
///
/// # Errors
/// All problems found.
pub(super) fn check(
    raw: &RawPlan,
    tree: &Node,
    misspelt: &HashSet<KeyPath>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Option<Plan>, Secrets), Vec<Problem>> {
    let mut checker = Checker {
        tree,
        misspelt,
        env,
        problems: Vec::new(),
        secrets: Secrets::default(),
    };
    let plan = checker.plan(raw);
    if checker.problems.is_empty() {
        Ok((plan, checker.secrets))
    } else {
        Err(checker.problems)
    }
}

/// Most entries of a section; the schema says the same.
const MAX_ENTRIES: usize = 256;

/// Which end of `key: value` a problem points to.
#[derive(Clone, Copy)]
enum At {
    Key,
    Value,
}

struct Checker<'a> {
    tree: &'a Node,
    misspelt: &'a HashSet<KeyPath>,
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
    secrets: Secrets,
}

fn expected(raw: &RawExpect) -> Expect {
    Expect {
        gpu_name: raw.gpu_name.clone(),
        driver: raw.driver.clone(),
        os: raw.os.clone(),
        cpu: raw.cpu.clone(),
        sockets: raw.sockets,
        cores: raw.cores,
        memory_gib: raw.memory_gib,
        nvcc: raw.nvcc.clone(),
    }
}

impl Checker<'_> {
    fn problem(&mut self, at: At, path: &KeyPath, message: impl Into<String>, help: Option<&str>) {
        let spot = match at {
            At::Key => self.tree.key_spot(path),
            At::Value => self.tree.value_spot(path),
        };
        self.problems.push(Problem {
            message: message.into(),
            path: path.clone(),
            spot,
            label: None,
            help: help.map(str::to_owned),
        });
    }

    /// Whether the plan has this key, whatever is in it.
    fn written(&self, path: &KeyPath) -> bool {
        self.misspelt.contains(path) || self.tree.at(path).is_some()
    }

    /// The names in a section, also of entries that were refused; none of a section that was refused for its size.
    fn names(&self, section: &str) -> Vec<String> {
        self.tree
            .at(&KeyPath::of(&[section]))
            .map(Node::entries)
            .filter(|entries| entries.len() <= MAX_ENTRIES)
            .map(|entries| entries.iter().map(|e| e.key.clone()).collect())
            .unwrap_or_default()
    }

    fn plan(&mut self, raw: &RawPlan) -> Option<Plan> {
        let name = raw.name.clone();
        if let Some(name) = &name {
            self.name(At::Value, &KeyPath::of(&["name"]), name);
        }
        for section in ["models", "frameworks", "scenarios"] {
            self.section_names(section);
        }
        self.log_names();
        let host = self.host(raw.host.as_ref());
        let request = self.request(raw.request.as_ref());
        let scenarios = self.scenarios(raw.scenarios.as_ref());
        let frameworks = self.frameworks(raw.frameworks.as_ref());
        let models = self.models(raw.models.as_ref());
        self.models_for_frameworks(raw, &models, &frameworks);
        self.something_to_run(&frameworks, &scenarios);
        self.size(raw, &scenarios);
        let hypotheses = self.hypotheses(raw.hypotheses.as_ref(), &frameworks, &scenarios);
        let notify = match &raw.notify {
            Some(notify) => {
                let path = KeyPath::of(&["notify", "webhook"]);
                notify
                    .webhook
                    .as_ref()
                    .and_then(|webhook| self.webhook(&path, webhook))
                    .map(|w| Notify { webhook: w })
            }
            None => None,
        };
        let quality = raw.quality.as_ref().map(|quality| Quality {
            file: self.file(&KeyPath::of(&["quality", "file"]), quality.file.as_ref()),
            output_tokens: quality.output_tokens.and_then(NonZeroU32::new),
        });
        // Only this version of the format is known; the walk says so.
        raw.version?;
        Some(Plan {
            name: name?,
            host: host?,
            request: request?,
            models,
            frameworks,
            scenarios,
            hypotheses,
            order: raw.order.unwrap_or(Order::Fixed),
            repeats: NonZeroU32::new(raw.repeats.unwrap_or(1))?,
            quality,
            notify,
        })
    }

    fn name(&mut self, at: At, path: &KeyPath, name: &str) {
        if let Err(error) = check_name(name) {
            self.problem(at, path, error.to_string(), Some(error.hint()));
        }
    }

    fn section_names(&mut self, section: &str) {
        /// Files of a run's folder, beside which each framework has its own.
        const TAKEN: [&str; 10] = [
            "run.json",
            "plan.yaml",
            "journal.jsonl",
            "prompts.jsonl",
            "questions.jsonl",
            "summary.csv",
            "summary.json",
            "report.html",
            "report.md",
            "benchd.log",
        ];
        let names = self.names(section);
        for (n, name) in names.iter().enumerate() {
            let path = KeyPath::of(&[section, name]);
            self.name(At::Key, &path, name);
            if section == "frameworks" && TAKEN.iter().any(|t| t.eq_ignore_ascii_case(name)) {
                let message = format!("`{name}` is the name of one of a run's own files");
                self.problem(
                    At::Key,
                    &path,
                    message,
                    Some("each framework has a folder of its name in the run's folder"),
                );
            }
            // The same key twice is the walk's finding.
            if let Some(twin) = names[..n]
                .iter()
                .find(|t| t.eq_ignore_ascii_case(name) && *t != name)
            {
                let message = format!("`{name}` and `{twin}` differ only in case");
                self.problem(
                    At::Key,
                    &path,
                    message,
                    Some("names become folders, and some file systems don't tell case apart"),
                );
            }
        }
    }

    /// `<framework>-<model>.log` must be one lane's only: `a-b` with `c` and `a` with `b-c` are not.
    fn log_names(&mut self) {
        let mut seen: HashMap<String, (String, String)> = HashMap::new();
        for framework in self.names("frameworks") {
            for model in self.names("models") {
                let log = format!("{framework}-{model}").to_lowercase();
                match seen.get(&log) {
                    // Names that differ only in case are another finding.
                    Some((f, m))
                        if !f.eq_ignore_ascii_case(&framework) && !m.eq_ignore_ascii_case(&model) =>
                    {
                        let message = format!(
                            "framework `{framework}` with model `{model}` and framework `{f}` with model `{m}` \
                             would share the log file {log}.log"
                        );
                        let path = KeyPath::of(&["frameworks", &framework]);
                        self.problem(At::Key, &path, message, Some("rename one of them"));
                    }
                    Some(_) => {}
                    None => {
                        seen.insert(log, (framework.clone(), model));
                    }
                }
            }
        }
    }

    fn duration(
        &mut self,
        path: &KeyPath,
        raw: Option<&DurationText>,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let Some(raw) = raw else { return default };
        match raw.parse() {
            Ok(duration) if duration >= least => return duration,
            Ok(_) => self.problem(
                At::Value,
                path,
                format!("`{}` is too short", raw.0),
                Some("it must be above zero"),
            ),
            Err(error) => {
                let bare = raw.0.bytes().all(|b| b.is_ascii_digit()) && !raw.0.is_empty();
                let help = if bare {
                    format!("write `{}s` for seconds", raw.0)
                } else {
                    "write `300s`, `5m` or `500ms`".to_owned()
                };
                self.problem(At::Value, path, error, Some(&help));
            }
        }
        default
    }

    fn ip(&mut self, path: &KeyPath, host: &str) {
        if host.parse::<IpAddr>().is_err() {
            let help = if host.eq_ignore_ascii_case("localhost") {
                "write `127.0.0.1`: `localhost` is another address on some machines"
            } else {
                "write the address to bind: `127.0.0.1` for this machine only, `0.0.0.0` for all"
            };
            self.problem(
                At::Value,
                path,
                format!("`{host}` is not an IP address"),
                Some(help),
            );
        }
    }

    fn file(&mut self, path: &KeyPath, raw: Option<&String>) -> Option<PathBuf> {
        let text = raw?;
        if text.starts_with("~/") {
            self.problem(
                At::Value,
                path,
                "`~` is not filled in",
                Some("write the whole path, or one relative to the working directory"),
            );
        }
        Some(PathBuf::from(text))
    }

    /// A text with its variables, and whether any came from the environment.
    fn filled(&mut self, path: &KeyPath, raw: &EnvText) -> Option<(String, bool)> {
        match raw.fill(self.env) {
            Ok(filled) => {
                let any = !filled.secrets.is_empty();
                self.secrets.values.extend(filled.secrets);
                if filled.text.contains('\0') {
                    self.problem(At::Value, path, "the value holds a NUL character", None);
                    return None;
                }
                Some((filled.text, any))
            }
            Err(errors) => {
                for error in errors {
                    let help = "set it before the run (under systemd: Environment= or EnvironmentFile=); `$${` stands for `${` itself";
                    self.problem(At::Value, path, error, Some(help));
                }
                None
            }
        }
    }

    fn webhook(&mut self, path: &KeyPath, raw: &EnvText) -> Option<String> {
        let (text, _) = self.filled(path, raw)?;
        // Never shown, also where it is wrong.
        let address = url::Url::parse(&text)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        if address.is_none() {
            self.problem(
                At::Value,
                path,
                "the webhook is not an address",
                Some("it starts with `http://` or `https://`"),
            );
            return None;
        }
        self.secrets.values.insert(text.clone());
        Some(text)
    }

    fn host(&mut self, raw: Option<&RawHost>) -> Option<Host> {
        let gpu = match raw.and_then(|h| h.gpu.as_ref()) {
            None => GpuSelection::Devices(vec![DeviceSelector::Index(0)]),
            Some(gpu) => self.gpu(&gpu.0, &KeyPath::of(&["host", "gpu"]))?,
        };
        let expect = raw.and_then(|h| h.expect.as_ref());
        if gpu == GpuSelection::None {
            let of_a_gpu = expect.map(|e| [("gpu_name", &e.gpu_name), ("driver", &e.driver)]);
            for (key, _) in of_a_gpu
                .into_iter()
                .flatten()
                .filter(|(_, value)| value.is_some())
            {
                self.problem(
                    At::Key,
                    &KeyPath::of(&["host", "expect", key]),
                    format!("`{key}` describes a GPU, but `gpu` is `none`"),
                    Some("take one of them out"),
                );
            }
        }
        let stranger = KeyPath::of(&["host", "stranger"]);
        let exclusive = raw.and_then(|h| h.exclusive).unwrap_or(true);
        if raw.is_some_and(|h| h.stranger.is_some()) {
            let why = if gpu == GpuSelection::None {
                Some("`stranger` is about a GPU, but `gpu` is `none`")
            } else if !exclusive {
                Some(
                    "`stranger` has no effect with `exclusive: false`: whoever else is on the GPU is not waited for",
                )
            } else {
                None
            };
            if let Some(why) = why {
                self.problem(At::Key, &stranger, why, Some("take one of them out"));
            }
        }
        let wait = raw
            .and_then(|h| h.stranger.as_ref())
            .and_then(|s| s.wait.as_ref());
        Some(Host {
            gpu,
            expect: expect.map(expected).unwrap_or_default(),
            exclusive,
            stranger_wait: self.duration(
                &stranger.key("wait"),
                wait,
                Duration::from_secs(30 * 60),
                Duration::ZERO,
            ),
        })
    }

    fn gpu(&mut self, devices: &[RawDevice], path: &KeyPath) -> Option<GpuSelection> {
        if let [RawDevice::Word(word)] = devices
            && word == "none"
        {
            return Some(GpuSelection::None);
        }
        let several = devices.len() > 1;
        let mut out = Vec::new();
        for (n, device) in devices.iter().enumerate() {
            match device {
                RawDevice::Index(index) => out.push(DeviceSelector::Index(*index)),
                RawDevice::Word(word) => {
                    let known = ["GPU-", "MIG-"]
                        .iter()
                        .any(|p| word.strip_prefix(p).is_some_and(|rest| !rest.is_empty()));
                    let plain = word
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'));
                    if known && plain {
                        out.push(DeviceSelector::Uuid(word.clone()));
                        continue;
                    }
                    let path = if several { path.index(n) } else { path.clone() };
                    let help = if word.eq_ignore_ascii_case("none") {
                        "write `none` alone, in small letters"
                    } else if word
                        .bytes()
                        .all(|b| b.is_ascii_digit() || matches!(b, b',' | b' '))
                    {
                        "several devices are a list of numbers: `[0, 1]`"
                    } else {
                        "write an NVML index (`0`), a UUID (`GPU-…`, see `nvidia-smi -L`), a list of them, or `none`"
                    };
                    self.problem(At::Value, &path, format!("`{word}` is not a GPU"), Some(help));
                }
            }
        }
        (out.len() == devices.len()).then_some(GpuSelection::Devices(out))
    }

    fn request(&mut self, raw: Option<&RawRequest>) -> Option<RequestSettings> {
        let timeout = raw.and_then(|r| r.timeout.as_ref());
        let path = KeyPath::of(&["request", "timeout"]);
        Some(RequestSettings {
            temperature: raw.and_then(|r| r.temperature).unwrap_or(0.0),
            top_p: raw.and_then(|r| r.top_p).unwrap_or(1.0),
            seed: raw.and_then(|r| r.seed),
            timeout: self.duration(&path, timeout, Duration::from_secs(300), Duration::from_millis(1)),
            warmup: raw.and_then(|r| r.warmup).unwrap_or(3),
        })
    }
}
