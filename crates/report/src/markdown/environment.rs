//! On what machine, from what software, with what settings.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{super::number::*, Table, code_block, escape, fairness, framework};
use benchd_analysis::{LaneSummary, RunSummary};
use benchd_core::record::{Format, Reading};
use benchd_journal::{ClientCalibration, EnvironmentInfo, RateLimit, RunInfo, Toolchain};
use benchd_plan::{GpuSelection, Plan, Source};

pub(super) fn section(summary: &RunSummary, plan: &Plan) -> String {
    let mut text = format!(
        "## Environment and fairness\n\n{}### Machine and client\n\n",
        fairness::section(summary)
    );
    match &summary.info {
        Some(info) => text.push_str(&machine(info, plan)),
        None => text.push_str("`run.json` is missing: the machine is not known.\n\n"),
    }
    let r = &plan.request;
    let _ = writeln!(
        text,
        "Requests: temperature {}, top_p {}, seed {}, limit {}, warm-up {} a lane and one wave before each cell.\n",
        r.temperature,
        r.top_p,
        r.seed.map_or("not set".to_owned(), |s| s.to_string()),
        duration(r.timeout),
        r.warmup
    );
    text.push_str(&super::lanes::prompts(summary));
    text.push_str("### Servers\n\n");
    for lane in &summary.lanes {
        text.push_str(&server(lane, plan));
    }
    text
}

fn machine(info: &RunInfo, plan: &Plan) -> String {
    let mut table = Table::new(["", ""]);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    let h = &info.host;
    row("host", escape(&h.hostname));
    let os = match h.distribution.is_empty() {
        true => &h.os,
        false => &h.distribution,
    };
    row("system", escape(&[os.as_str(), h.kernel.as_str()].join(", ")));
    let topology = match (h.sockets, h.cores) {
        (Some(sockets), Some(cores)) => {
            format!("{}, {}, ", counted(sockets, "socket"), counted(cores, "core"))
        }
        _ => String::new(),
    };
    row(
        "CPU",
        format!(
            "{} ({topology}{} logical CPUs for benchd)",
            escape(&h.cpu),
            h.cpus
        ),
    );
    row("memory", format!("{} GB", number(h.memory_bytes as f64 / 1e9)));
    match &info.gpu {
        Some(gpu) => {
            row(
                "driver",
                format!(
                    "{}, CUDA {}",
                    escape(&gpu.driver),
                    escape(gpu.cuda.as_deref().unwrap_or("?"))
                ),
            );
            for (i, d) in gpu.devices.iter().enumerate() {
                let baseline = info
                    .gpu_baseline_bytes
                    .get(i)
                    .copied()
                    .unwrap_or(d.memory_used_bytes);
                let watts = d
                    .power_limit_mw
                    .map_or(NONE.to_owned(), |mw| number(f64::from(mw) / 1e3));
                let text = format!(
                    "{} (`{}`), {} MB, {} MB in use before the first server, power limit {watts} W",
                    escape(&d.name),
                    escape(&d.uuid),
                    megabytes(d.memory_total_bytes as f64),
                    megabytes(baseline as f64),
                );
                row(&format!("GPU {}", d.index), text);
            }
        }
        None if plan.host.gpu == GpuSelection::None => row("GPU", "none, as the plan says".to_owned()),
        None => row("GPU", "not known".to_owned()),
    }
    row("compilers", compilers(&info.toolchain));
    row("compiled at a first start", compiles(&info.compiles));
    row("benchd", escape(&info.benchd_version));
    row(
        "plan",
        format!("`{}`, SHA-256 `{}`", escape(&info.plan_path), info.plan_sha256),
    );
    let mut text = format!("{table}\n");
    text.push_str(&run_from(&info.environments));
    match &info.client {
        Some(client) => text.push_str(&self_check(client)),
        None => text.push_str("The client was not checked against the simulated server in this run.\n\n"),
    }
    text
}

fn counted(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The compilers that servers find; empty where none was looked for.
fn compilers(toolchain: &Toolchain) -> String {
    let all = [
        ("nvcc", &toolchain.nvcc),
        ("c++", &toolchain.cxx),
        ("cc", &toolchain.cc),
    ];
    if toolchain.is_empty() {
        return String::new();
    }
    let told = all.map(|(name, tool)| match tool {
        Some(tool) => format!(
            "{name} {} (`{}`)",
            escape(tool.version.as_deref().unwrap_or("?")),
            escape(&tool.path)
        ),
        None => format!("no {name}"),
    });
    told.join(", ")
}

/// What servers compile, each with its lanes.
fn compiles(by_lane: &BTreeMap<String, Vec<String>>) -> String {
    let mut by_what: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (lane, all) in by_lane {
        for what in all {
            by_what.entry(what).or_default().push(lane);
        }
    }
    let told: Vec<String> = by_what
        .into_iter()
        .map(|(what, lanes)| format!("{}: {}", escape(what), escape(&lanes.join(", "))))
        .collect();
    told.join("; ")
}

/// What the frameworks run from: version, Python, packages with their hash, size.
fn run_from(environments: &BTreeMap<String, EnvironmentInfo>) -> String {
    if environments.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        "framework",
        "version",
        "Python",
        ">packages",
        ">on disk (MB)",
        ">installed in",
        "SHA-256",
    ]);
    for (name, e) in environments {
        let word = |text: Option<&String>| text.map_or(NONE.to_owned(), |text| escape(text));
        let hash = match (&e.resolved_sha256, &e.source_sha256) {
            (Some(hash), _) => format!("packages `{}`", escape(hash)),
            (None, Some(hash)) => format!("archive `{}`", escape(hash)),
            (None, None) => NONE.to_owned(),
        };
        table.row([
            escape(name),
            word(e.version.as_ref()),
            python(e),
            e.packages.map_or(NONE.to_owned(), |n| count(n.into())),
            e.bytes.map_or(NONE.to_owned(), |bytes| megabytes(bytes as f64)),
            millis(e.install_ms),
            hash,
        ]);
    }
    format!(
        "What the frameworks run from. The same hash of packages (the sorted lines `name==version`) or of a release archive \
         is the same software.\n\n{table}\n"
    )
}

/// The venv's Python, and its torch with the CUDA that it was built for.
fn python(e: &EnvironmentInfo) -> String {
    let torch = e.torch.as_ref().map(|torch| match &e.torch_cuda {
        Some(cuda) => format!("torch {} (CUDA {})", escape(torch), escape(cuda)),
        None => format!("torch {}", escape(torch)),
    });
    let parts: Vec<String> = e
        .python
        .as_ref()
        .map(|python| escape(python))
        .into_iter()
        .chain(torch)
        .collect();
    if parts.is_empty() {
        NONE.to_owned()
    } else {
        parts.join(", ")
    }
}

fn self_check(client: &ClientCalibration) -> String {
    let mut table = Table::new([
        ">streams",
        ">events",
        ">TTFT error p50 (µs)",
        ">p99",
        ">max",
        ">gap error p50 (µs)",
        ">p99",
        ">max",
        ">CPU an event (µs)",
    ]);
    for p in &client.points {
        table.row([
            count(p.streams.into()),
            count(p.events),
            number(p.ttft_error_us_p50),
            number(p.ttft_error_us_p99),
            number(p.ttft_error_us_max),
            number(p.gap_error_us_p50),
            number(p.gap_error_us_p99),
            number(p.gap_error_us_max),
            number(p.cpu_us_per_event),
        ]);
    }
    let too_much = client
        .events_limit()
        .map(|r| format!(" It did not sustain {} events a second.", number(r)));
    let limit = client
        .max_events_per_s
        .map(|r| {
            let at_least = match client.rate_limit {
                Some(RateLimit::Server | RateLimit::Time) => "at least ",
                Some(RateLimit::Client) | None => "",
            };
            format!(" It sustains {at_least}{} events a second.", number(r))
        })
        .or(too_much)
        .unwrap_or_default();
    format!(
        "benchd's own error on this machine, against a simulated server with known times.{limit} Differences smaller than \
         this are not differences.\n\n{table}\n"
    )
}

fn server(lane: &LaneSummary, plan: &Plan) -> String {
    let mut text = format!(
        "#### {} / {}\n\n",
        framework(&lane.lane),
        escape(&lane.lane.model)
    );
    if let Some(s) = &lane.server {
        let mut lines: Vec<String> = s.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        lines.push(s.argv.join(" "));
        text.push_str(&code_block(lines.iter().map(String::as_str)));
        text.push('\n');
    } else if let Some(Source::Url(url)) = plan.frameworks.get(&lane.lane.framework).map(|f| &f.source) {
        let _ = writeln!(
            text,
            "Run by someone else at `{}`: benchd neither starts nor stops it.\n",
            escape(url)
        );
    }
    let mut table = Table::new(["fact", "value"]);
    if let Some(id) = &lane.model_id {
        table.row(["model id".to_owned(), format!("`{}`", escape(id))]);
    }
    if let Some(tokens) = lane.template_tokens {
        table.row(["tokens of the chat template".to_owned(), tokens.to_string()]);
    }
    if !lane.facts.is_empty() {
        let said = |format: &Reading<Format>| match format {
            Reading::Read { value, from } => format!("{} ({})", escape(&value.to_string()), escape(from)),
            Reading::Unknown => "unknown: nothing says it".to_owned(),
        };
        table.row(["weights in".to_owned(), said(&lane.precision.weights)]);
        table.row(["KV cache in".to_owned(), said(&lane.precision.kv_cache)]);
        if let Reading::Read { value: true, from } = &lane.precision.random_weights {
            table.row([
                "random weights".to_owned(),
                format!("yes ({}): answers mean nothing", escape(from)),
            ]);
        }
        if let Some(bytes) = lane.precision.file_bytes {
            table.row(["weights on disk (MB)".to_owned(), megabytes(bytes as f64)]);
        }
    }
    for (name, value) in &lane.facts {
        table.row([escape(&name.replace('_', " ")), escape(value)]);
    }
    if !table.is_empty() {
        let _ = writeln!(text, "{table}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_framework_runs_from_is_told_and_what_is_not_known_is_a_dash() {
        let venv = EnvironmentInfo {
            version: Some("0.15.1".to_owned()),
            python: Some("3.12.8".to_owned()),
            packages: Some(178),
            resolved_sha256: Some("ab".repeat(32)),
            bytes: Some(10_200_000_000),
            install_ms: Some(182_000),
            ..EnvironmentInfo::default()
        };
        let archive = EnvironmentInfo {
            version: Some("0.15.6".to_owned()),
            source_sha256: Some("cd".repeat(32)),
            ..EnvironmentInfo::default()
        };
        let text = run_from(&BTreeMap::from([
            ("vllm".to_owned(), venv),
            ("ollama".to_owned(), archive),
        ]));
        let row = |name: &str| {
            text.lines()
                .find(|line| line.contains(name))
                .unwrap_or_default()
                .to_owned()
        };
        let vllm = row("| vllm");
        assert!(
            vllm.contains("3.12.8")
                && vllm.contains("178")
                && vllm.contains("10,200")
                && vllm.contains("3 min 2 s"),
            "{vllm}"
        );
        assert!(vllm.contains("packages `abab"), "{vllm}");
        let ollama = row("| ollama");
        assert!(
            ollama.contains("archive `cdcd") && ollama.contains(NONE),
            "{ollama}"
        );
        assert_eq!(run_from(&BTreeMap::new()), "");
        let with_torch = EnvironmentInfo {
            torch: Some("2.9.1+cu128".to_owned()),
            torch_cuda: Some("12.8".to_owned()),
            ..EnvironmentInfo::default()
        };
        let text = run_from(&BTreeMap::from([("vllm".to_owned(), with_torch)]));
        assert!(text.contains("torch 2.9.1+cu128 (CUDA 12.8)"), "{text}");
    }

    #[test]
    fn compilers_and_what_they_are_for_are_told() {
        let toolchain = Toolchain {
            nvcc: Some(benchd_journal::Tool {
                path: "/usr/local/cuda/bin/nvcc".to_owned(),
                version: Some("12.1.66".to_owned()),
            }),
            ..Toolchain::default()
        };
        assert_eq!(
            compilers(&toolchain),
            "nvcc 12.1.66 (`/usr/local/cuda/bin/nvcc`), no c++, no cc"
        );
        assert_eq!(compilers(&Toolchain::default()), "");
        let kernels = vec!["kernels".to_owned()];
        let by_lane = BTreeMap::from([("a/m".to_owned(), kernels.clone()), ("b/m".to_owned(), kernels)]);
        assert_eq!(compiles(&by_lane), "kernels: a/m, b/m");
    }
}
