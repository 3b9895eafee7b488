//! What a run would do: lanes, cells, each server's command line and environment, and the estimated time. Needs
//! neither a GPU nor an environment.

use std::{fmt::Write as _, path::PathBuf};

use super::super::{CommandResult, DONE, answer, count_cells, runtime};
use crate::{
    check::{self, Subject, known::Machine},
    cli::RunArgs,
    run::{Failure, short_duration},
};
use benchd_core::{
    format::{chosen, counted},
    record::Redactor,
};
use benchd_frameworks::VisibleGpu;
use benchd_plan::{
    self, Arrival, Assumptions, Cell, DeviceSelector, GpuSelection, Lane, LoadedPlan, Plan, Source,
    longest_prompt_tokens, most_streams,
};

/// Prints it on stdout.
///
/// # Errors
/// When a framework's settings contradict what benchd sets itself (2).
pub(super) fn print(
    args: &RunArgs,
    loaded: &LoadedPlan,
    lanes: &[Lane],
    redactor: &Redactor,
) -> CommandResult {
    let plan = &loaded.plan;
    let mut text = render(plan, lanes)?;
    let subject = Subject {
        plan,
        plan_path: &args.plan,
        lanes,
        results: &args.places.results,
        logs: &args.places.logs,
    };
    text.push_str(&runtime()?.block_on(known(subject, args.gpu.as_deref()))?);
    let text = redactor.text(&text);
    answer(&text)?;
    DONE
}

/// What is known of the lanes on the GPU of that name, or on this machine's.
async fn known(subject: Subject<'_>, gpu: Option<&str>) -> Result<String, Failure> {
    let machine = match gpu {
        Some(name) => Machine::with_gpu(name).map_err(Failure::plan)?,
        None => match check::gpu::open(&subject.plan.host.gpu).await {
            Ok(gpu) => Machine::this(gpu.host()),
            Err(_) => {
                return Ok(
                    "\nwhat is known of these lanes was not judged: no GPU here; --gpu rtx5090 judges for one\n"
                        .to_owned(),
                );
            }
        },
    };
    let mut text = String::new();
    for finding in check::of_lanes(&subject, &machine).await {
        let _ = writeln!(text, "\nknown    {}: {}", finding.severity.as_str(), finding.text);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "         → {remedy}");
        }
    }
    Ok(text)
}

fn render(plan: &Plan, lanes: &[Lane]) -> Result<String, Failure> {
    let estimate = benchd_plan::estimate(plan, lanes, &Assumptions::default(), benchd_frameworks::pace);
    let (cells, requests) = count_cells(lanes);
    let mut out = format!(
        "plan {}: {}, {}, {}, about {}\n",
        plan.name,
        counted(lanes.len() as u64, "lane"),
        counted(cells as u64, "cell"),
        counted(requests, "counted request"),
        short_duration(estimate.total)
    );
    for (lane, estimated) in lanes.iter().zip(&estimate.lanes) {
        let (Some(fw), Some(model)) = (
            plan.frameworks.get(&lane.id.framework),
            plan.models.get(&lane.id.model),
        ) else {
            continue;
        };
        let context = benchd_frameworks::Context {
            longest_prompt_tokens: longest_prompt_tokens(lanes, &lane.id.model),
            gpus: shown_gpus(&plan.host.gpu),
            max_concurrency: most_streams(lane),
            work_dir: PathBuf::from("logs/<run-id>"),
        };
        let adapter = benchd_frameworks::adapter(fw, model, &context).map_err(Failure::plan)?;
        let _ = writeln!(
            out,
            "\nlane {}  (about {})",
            lane.id,
            short_duration(estimated.total)
        );
        match (adapter.launch(), &fw.source) {
            (Some(launch), _) => {
                let shown = launch.redacted();
                let _ = writeln!(out, "  command  {}", shell_line(&shown.argv()));
                for (name, value) in &shown.env {
                    let _ = writeln!(out, "  env      {name}={value}");
                }
            }
            (None, Source::Url(url)) => {
                let _ = writeln!(out, "  url      {url} (benchd neither starts nor stops it)");
            }
            (None, _) => {}
        }
        for note in adapter.notes() {
            let _ = writeln!(out, "  note     {note}");
        }
        let width = lane.cells.iter().map(|cell| cell.id.len()).max().unwrap_or(0);
        for cell in &lane.cells {
            let _ = writeln!(
                out,
                "  cell     {:<width$}  {} × {}, {}, {} warm-up, {:?} prompts",
                cell.id,
                counted(cell.requests_per_pass.into(), "request"),
                passes(cell.passes),
                load(cell),
                cell.warmup,
                cell.prompts
            );
        }
        for (name, time) in &estimated.scenarios {
            let _ = writeln!(out, "  time     {name}: about {}", short_duration(*time));
        }
    }
    Ok(out)
}

fn passes(n: u32) -> String {
    format!("{n} pass{}", if n == 1 { "" } else { "es" })
}

/// What a cell's requests are sent by: `16 streams`, or `8 requests/s (poisson)`.
fn load(cell: &Cell) -> String {
    let rate = |per_s: f64, kind: &str| format!("{} requests/s ({kind})", chosen(per_s));
    match cell.arrival {
        Arrival::Closed => counted(cell.concurrency.into(), "stream"),
        Arrival::Constant { rate_per_s } => rate(rate_per_s, "constant"),
        Arrival::Poisson { rate_per_s } => rate(rate_per_s, "poisson"),
        Arrival::Gamma {
            rate_per_s,
            burstiness,
        } => rate(rate_per_s, &format!("gamma, burstiness {}", chosen(burstiness))),
    }
}

/// Without a GPU at hand its UUID is not known: a place-holder says where it will stand.
fn shown_gpus(selection: &GpuSelection) -> Vec<VisibleGpu> {
    let GpuSelection::Devices(devices) = selection else {
        return Vec::new();
    };
    devices
        .iter()
        .enumerate()
        .map(|(place, device)| match device {
            DeviceSelector::Index(index) => VisibleGpu {
                index: *index,
                uuid: format!("<UUID of GPU {index}>"),
            },
            DeviceSelector::Uuid(uuid) => VisibleGpu {
                index: u32::try_from(place).unwrap_or(u32::MAX),
                uuid: uuid.clone(),
            },
        })
        .collect()
}

/// As it can be pasted into a shell.
fn shell_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    argv.iter()
        .map(|arg| {
            if !arg.is_empty() && arg.chars().all(plain) {
                arg.clone()
            } else {
                format!("'{}'", arg.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted() {
        let argv = ["a b", "it's", "--x=1", ""].map(str::to_owned);
        assert_eq!(shell_line(&argv), r"'a b' 'it'\''s' --x=1 ''");
    }

    #[test]
    fn a_cell_says_what_sends_its_requests() {
        let plan = r#"version: 1
name: night
host: { gpu: none }
models: { m: { openai: m } }
frameworks: { a: { kind: openai, command: [server, "{port}"], port: 9000 } }
scenarios:
  single: { input_tokens: 512, output_tokens: 16, repeats: 1 }
  concurrent: { concurrency: [16], input_tokens: 512, output_tokens: 16, requests: 32, passes: 2 }
  open: { kind: concurrent, input_tokens: 512, output_tokens: 16, requests: 40, arrival: { poisson: 8/s } }
"#;
        let plan = benchd_plan::parse("plan.yaml", plan, &|_| None).unwrap_or_else(|e| panic!("{e}"));
        let lanes = benchd_plan::lanes(&plan, &benchd_plan::Only::default());
        let text = render(&plan, &lanes).unwrap_or_else(|_| panic!("a dry run"));
        for said in [
            "1 request × 1 pass, 1 stream, ",
            "32 requests × 2 passes, 16 streams, ",
            "40 requests × 1 pass, 8 requests/s (poisson), ",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }
}
