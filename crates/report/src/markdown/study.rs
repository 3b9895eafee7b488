//! The report of several runs: machines side by side, nights pooled.

use std::fmt::Write as _;

use super::{
    super::{
        names::Names,
        number::*,
        reference::{Candidate, References},
    },
    About, Section, Table, compared, escape,
    operations::{energy_per_token, idle, kv_cache, load_time, rest, weights},
    scenarios::document_section,
    verdicts,
};
use benchd_analysis::{
    MachineStudy, NIGHTS_P, NIGHTS_SHARE, OverNights, RunSummary, Study, StudyCell, common_cells,
};
use benchd_core::format::list;
use benchd_plan::ScenarioKind;

/// Gives the address of a run's own report, where it has one.
pub(crate) type Link<'a> = &'a dyn Fn(&RunSummary) -> Option<String>;

/// The parts of the report of several runs, in their order.
pub(crate) fn study_sections(study: &Study, link: Link<'_>) -> Vec<Section> {
    let mut all = vec![(About::Title, title(study, link))];
    all.extend(
        study
            .machines
            .iter()
            .map(|machine| (About::Verdicts, verdicts_of(machine, study))),
    );
    all.push((About::Glance, glance(study, &models(study))));
    all.extend(
        scenarios(study)
            .into_iter()
            .map(|(kind, text)| (About::Scenario(kind), text)),
    );
    all.extend([
        (About::Text, rankings(study)),
        (About::Text, nights(study)),
        (About::Operations, operations(study)),
        (About::Text, notes(study)),
        (About::Text, flags(study)),
        (About::Text, method(study)),
    ]);
    let parts = all.into_iter().filter(|(_, text)| !text.trim().is_empty());
    parts.map(|(about, text)| Section { about, text }).collect()
}

/// What became of the hypotheses on one machine, over its nights; each test stands in the report of its run.
fn verdicts_of(machine: &MachineStudy, study: &Study) -> String {
    if machine.verdicts.is_empty() {
        return String::new();
    }
    let of = match study.machines.len() {
        1 => String::new(),
        _ => format!(" on {}", escape(&machine.name)),
    };
    format!("## Verdicts{of}\n\n{}", verdicts::rows(&machine.verdicts))
}

/// The whole report of several runs.
pub(crate) fn study_md(study: &Study, link: Link<'_>) -> String {
    let parts: Vec<String> = study_sections(study, link)
        .into_iter()
        .map(|s| s.text.trim_end().to_owned())
        .collect();
    format!("{}\n", parts.join("\n\n"))
}

fn runs(study: &Study) -> impl Iterator<Item = (&MachineStudy, usize, &RunSummary)> {
    study
        .machines
        .iter()
        .flat_map(|m| (1..).zip(&m.runs).map(move |(n, run)| (m, n, run)))
}

fn models(study: &Study) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for cell in study.machines.iter().flat_map(|m| &m.cells) {
        if !models.contains(&cell.model.as_str()) {
            models.push(&cell.model);
        }
    }
    models
}

fn plural(n: usize, one: &str) -> String {
    match n {
        1 => format!("one {one}"),
        2 => format!("two {one}s"),
        n => format!("{} {one}s", count(n as u64)),
    }
}

fn title(study: &Study, link: Link<'_>) -> String {
    let n = runs(study).count();
    let mut text = format!(
        "# benchd: {} on {}\n\n",
        plural(n, "run"),
        plural(study.machines.len(), "machine")
    );
    let mut table = Table::new([
        "machine",
        ">night",
        "run",
        "begun",
        "plan",
        "benchd",
        "state",
        ">cells",
        ">requests",
        ">failed",
    ]);
    for (machine, night, run) in runs(study) {
        let cells = || run.lanes.iter().flat_map(|l| &l.cells);
        let id = format!("`{}`", escape(&run.run_id));
        table.row([
            escape(&machine.name),
            night.to_string(),
            link(run).map_or_else(|| id.clone(), |to| format!("[{id}]({to})")),
            time(run.started_unix_us),
            escape(&run.plan),
            escape(&run.benchd_version),
            run.outcome.clone(),
            format!("{} of {}", count(run.cells_measured), count(run.cells_planned)),
            count(cells().map(|c| c.requests).sum()),
            count(cells().map(|c| c.failed).sum()),
        ]);
    }
    let _ = writeln!(text, "{table}");
    for machine in &study.machines {
        let _ = writeln!(
            text,
            "- **{}**: {}",
            escape(&machine.name),
            escape(&machine.machine)
        );
    }
    text
}

/// `55.0 [30.0, 80.0]`; a dash where there is no such figure.
fn figure(cell: Option<&StudyCell>, name: &str) -> String {
    cell.and_then(|c| c.figures.get(name))
        .map_or(NONE.to_owned(), |f| with_interval(f.pooled, f.interval.as_ref()))
}

/// The cells that stand for a model on every machine: the single request and the load.
fn references<'a>(study: &'a Study, model: &'a str) -> References<'a, (usize, &'a str)> {
    let all: Vec<_> = of_model(study, model)
        .map(|(at, cell)| Candidate::of_study((at, cell.framework.as_str()), cell))
        .collect();
    References::among(&all)
}

/// A model's cells, with the machine's position.
fn of_model<'a>(study: &'a Study, model: &'a str) -> impl Iterator<Item = (usize, &'a StudyCell)> {
    let machines = study.machines.iter().enumerate();
    machines
        .flat_map(|(at, machine)| machine.cells.iter().map(move |cell| (at, cell)))
        .filter(move |(_, cell)| cell.model == model)
}

/// The frameworks of a model on a machine, in the order in which they ran.
fn frameworks<'a>(machine: &'a MachineStudy, model: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in machine.cells.iter().filter(|c| c.model == model) {
        if !names.contains(&cell.framework.as_str()) {
            names.push(&cell.framework);
        }
    }
    names
}

/// How the frameworks of a machine are named, over its nights.
fn names_of(machine: &MachineStudy) -> Names {
    Names::of(machine.runs.iter().flat_map(|run| &run.lanes))
}

fn glance(study: &Study, models: &[&str]) -> String {
    let mut text = "## At a glance\n\n".to_owned();
    for model in models {
        let of = references(study, model);
        let (single, load) = (of.single.map(|c| c.cell), of.load.map(|c| c.cell));
        let (with_peak, peak_cells) = common_cells(of_model(study, model).filter_map(|(at, c)| {
            c.gpu_memory_peak_bytes?;
            Some(((at, c.framework.as_str()), c.cell.as_str()))
        }));
        let mut table = Table::new([
            "machine",
            "framework",
            ">nights",
            ">TTFT, single (ms)",
            ">tokens/s, single",
            ">tokens/s, load",
            ">latency p95, load (ms)",
            ">peak GPU (MB)",
            ">J/token, load",
            ">failed",
        ]);
        for (at, machine) in study.machines.iter().enumerate() {
            let names = names_of(machine);
            for framework in frameworks(machine, model) {
                let cells = || {
                    let all = machine.cells.iter();
                    all.filter(|c| c.model == *model && c.framework == framework)
                };
                let cell = |id: Option<&str>| cells().find(|c| Some(c.cell.as_str()) == id);
                let (single, load) = (cell(single), cell(load));
                let nights = cells().map(|c| c.nights.len()).max().unwrap_or(0);
                let peak = cells()
                    .filter(|c| with_peak.contains(&(at, framework)) && peak_cells.contains(c.cell.as_str()))
                    .filter_map(|c| c.gpu_memory_peak_bytes)
                    .max();
                table.row([
                    escape(&machine.name),
                    escape(&names.name(framework, model)),
                    count(nights as u64),
                    figure(single, "ttft_ms"),
                    figure(single, "tokens_per_s"),
                    figure(load, "output_tokens_per_s"),
                    optional(load.and_then(|c| c.latency_ms_p95)),
                    peak.map_or(NONE.to_owned(), |b| megabytes(b as f64)),
                    optional(load.and_then(|c| c.gpu_energy_j_per_output_token)),
                    format!(
                        "{} of {}",
                        count(cells().map(|c| c.failed).sum()),
                        count(cells().map(|c| c.requests).sum())
                    ),
                ]);
            }
        }
        let _ = writeln!(text, "### {}\n\n{table}", escape(model));
        if let Some(id) = single {
            let _ = write!(text, "Single: `{id}`. ");
        }
        if let Some(id) = load {
            let _ = write!(text, "Load: `{id}`.");
        }
        text.push_str("\n\n");
    }
    text.push_str(
        "Figures are medians, over several nights their geometric mean, with their 95 % interval in brackets; latency p95 \
         and J/token are the median over the nights, peak GPU memory the largest of the cells that all measured.\n",
    );
    text
}

/// What the document expects, and what was seen over the nights of each machine.
fn expectations(study: &Study, section: &str) -> String {
    let mut text = String::new();
    for machine in &study.machines {
        let table = verdicts::expectations(&machine.expectations, section);
        if !table.is_empty() && study.machines.len() > 1 {
            let _ = write!(text, "On {}. ", escape(&machine.name));
        }
        text.push_str(&table);
    }
    text
}

/// The document's rankings over all scenarios (9.2).
fn rankings(study: &Study) -> String {
    let tables = expectations(study, "9.2");
    if tables.is_empty() {
        tables
    } else {
        format!("## The document's rankings\n\n{tables}")
    }
}

/// One section a scenario, in the order in which they were met.
fn scenarios(study: &Study) -> Vec<(ScenarioKind, String)> {
    let cells = || study.machines.iter().flat_map(|m| &m.cells);
    let mut names: Vec<(&str, ScenarioKind)> = Vec::new();
    for cell in cells() {
        if names.iter().all(|(name, _)| *name != cell.scenario) {
            names.push((&cell.scenario, cell.kind));
        }
    }
    // A second scenario of a kind does not tell the document's expectations again.
    let mut told: Vec<&str> = Vec::new();
    let of_scenario = |(name, kind): (&str, ScenarioKind)| {
        let mut text = format!("## Scenario: {}\n\n", escape(name));
        let section = document_section(kind);
        if !told.contains(&section) {
            told.push(section);
            text.push_str(&expectations(study, section));
        }
        for model in models(study) {
            if cells().any(|c| c.scenario == name && c.model == model) {
                let _ = writeln!(text, "### {}\n\n{}", escape(model), scenario(study, model, name));
            }
        }
        (kind, text)
    };
    names.into_iter().map(of_scenario).collect()
}

fn scenario(study: &Study, model: &str, name: &str) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for cell in study.machines.iter().flat_map(|m| &m.cells) {
        if cell.model == model && cell.scenario == name && !ids.contains(&cell.cell.as_str()) {
            ids.push(&cell.cell);
        }
    }
    let mut table = Table::new([
        "cell",
        "machine",
        "framework",
        ">nights",
        ">TTFT (ms)",
        ">latency (ms)",
        ">TPOT (ms)",
        ">output tokens/s",
        ">requests/s",
        ">failed",
    ]);
    for id in ids {
        for machine in &study.machines {
            let names = names_of(machine);
            for c in machine.cells.iter().filter(|c| c.model == model && c.cell == id) {
                table.row([
                    format!("`{id}`"),
                    escape(&machine.name),
                    escape(&names.name(&c.framework, model)),
                    count(c.nights.len() as u64),
                    figure(Some(c), "ttft_ms"),
                    figure(Some(c), "latency_ms"),
                    figure(Some(c), "tpot_ms"),
                    figure(Some(c), "output_tokens_per_s"),
                    figure(Some(c), "requests_per_s"),
                    format!("{} of {}", count(c.failed), count(c.requests)),
                ]);
            }
        }
    }
    let mut text = format!("{table}\n");
    for machine in &study.machines {
        let compared = compared::section(&machine.comparisons, model, name, &names_of(machine));
        if !compared.is_empty() {
            let nights = plural(machine.runs.len(), "night");
            let _ = writeln!(text, "**{}**, {nights}. {compared}", escape(&machine.name));
        }
    }
    text
}

fn nights(study: &Study) -> String {
    if study.machines.iter().all(|m| m.runs.len() < 2) {
        return String::new();
    }
    let mut text = "## Between the nights\n\n".to_owned();
    for machine in study.machines.iter().filter(|m| m.runs.len() > 1) {
        let judged = machine
            .cells
            .iter()
            .flat_map(|c| c.figures.values())
            .filter(|f| f.between.is_some())
            .count();
        let figures = machine.differing.iter().filter(|d| d.against.is_none()).count();
        let _ = writeln!(
            text,
            "### {}\n\nOf {} figures with an interval on two nights or more, {} differ between the nights by more than the \
             nights' own intervals say.{}\n",
            escape(&machine.name),
            count(judged as u64),
            count(figures as u64),
            typical(machine)
        );
        let mut table = Table::new([
            "cell",
            "model",
            "what",
            "figure",
            ">by night",
            ">range",
            ">sd between nights",
            ">mean over nights",
            ">p",
        ]);
        for d in &machine.differing {
            let values: Vec<String> = d.nights.values().map(|v| number(*v)).collect();
            let what = match &d.against {
                Some(against) => format!("{} over {}", escape(&d.framework), escape(against)),
                None => escape(&d.framework),
            };
            table.row([
                format!("`{}`", d.cell),
                escape(&d.model),
                what,
                d.figure.clone(),
                values.join(", "),
                percent(d.between.range_share),
                percent(d.between.sd_share),
                with_interval(d.between.mean, Some(&d.between.interval)),
                number(d.between.p),
            ]);
        }
        if !table.is_empty() {
            let _ = writeln!(
                text,
                "{table}\nThe pooled figures and ratios above speak of these nights. Where nights differ, what other nights \
                 would bring is the mean over nights in this table, with its wider interval. A framework's figure may differ \
                 while its ratio to another doesn't: then the whole machine was slower or faster.\n"
            );
        }
    }
    text
}

/// How far nights lie apart, typically: the median over the figures.
fn typical(machine: &MachineStudy) -> String {
    let of = |name: &str| {
        let figures = machine.cells.iter().filter_map(|c| c.figures.get(name));
        let ranges = figures
            .filter(|f: &&OverNights| f.nights.len() > 1)
            .filter_map(|f| {
                let (low, high) = f
                    .nights
                    .values()
                    .fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
                (low > 0.0).then(|| high / low - 1.0)
            })
            .collect();
        benchd_core::stats::Sorted::new(ranges).map(|s| s.median())
    };
    let texts: Vec<String> = [
        ("ttft_ms", "TTFT"),
        ("latency_ms", "latency"),
        ("output_tokens_per_s", "output tokens/s"),
    ]
    .iter()
    .filter_map(|(figure, name)| Some(format!("{name} {}", percent(of(figure)?))))
    .collect();
    if texts.is_empty() {
        String::new()
    } else {
        format!(
            " Typical range from the lowest to the highest night, over the cells: {}.",
            list(&texts)
        )
    }
}

fn notes(study: &Study) -> String {
    let mut text = String::new();
    for machine in study.machines.iter().filter(|m| !m.notes.is_empty()) {
        let _ = writeln!(text, "### {}\n", escape(&machine.name));
        for note in &machine.notes {
            let _ = writeln!(text, "- {}", escape(note));
        }
        text.push('\n');
    }
    if text.is_empty() {
        text
    } else {
        format!("## What differs between the nights\n\n{text}")
    }
}

fn operations(study: &Study) -> String {
    let mut table = Table::new([
        "machine",
        ">night",
        "framework",
        "model",
        "version",
        "lane",
        ">weights loaded in",
        ">first answer after",
        ">idle GPU memory (MB)",
        ">weights (MB)",
        ">KV cache (MB)",
        ">the rest (MB)",
        ">J/output token",
        ">stopped in",
        ">memory back after",
    ]);
    for (machine, night, run) in runs(study) {
        for lane in &run.lanes {
            let s = lane.server.as_ref();
            table.row([
                escape(&machine.name),
                night.to_string(),
                super::framework(&lane.lane),
                escape(&lane.lane.model),
                lane.version.as_deref().map_or(NONE.to_owned(), escape),
                lane.outcome.clone(),
                load_time(s),
                millis(s.and_then(|s| s.ready_ms)),
                idle(s),
                weights(s),
                kv_cache(s),
                rest(s),
                energy_per_token(lane),
                millis(s.and_then(|s| s.stop_ms)),
                millis(s.and_then(|s| s.release_ms)),
            ]);
        }
    }
    format!(
        "## Operations\n\n{table}\nWeights, their loading and the KV cache are what each server's log says at its start. The rest \
         is idle memory less weights and KV cache. vLLM and SGLang reserve a fraction of the device whatever they need.\n"
    )
}

fn flags(study: &Study) -> String {
    let mut flags = Table::new(["machine", ">night", "framework", "model", "cell", "flag"]);
    for (machine, night, run) in runs(study) {
        for cell in run.lanes.iter().flat_map(|l| &l.cells) {
            for flag in cell
                .flags
                .iter()
                .filter(|f| f.kind != benchd_core::record::FlagKind::FewSamples)
            {
                flags.row([
                    escape(&machine.name),
                    night.to_string(),
                    super::framework(&cell.lane),
                    escape(&cell.lane.model),
                    format!("`{}`", cell.cell),
                    format!("{}: {}", flag.kind.as_str(), escape(&flag.seen)),
                ]);
            }
        }
    }
    if flags.is_empty() {
        String::new()
    } else {
        format!("## Flags\n\n{flags}")
    }
}

fn method(study: &Study) -> String {
    let mut text = format!(
        "## Method\n\n\
         - **Machines** are told apart by the UUIDs of their GPUs, without a GPU by host name, CPU and memory. They stand side \
         by side and are never pooled.\n\
         - **Nights** of one machine are pooled where they ask and serve the same: prompts, lengths, streams, request settings, \
         the framework's arguments and environment, the model. Where they don't, the largest group counts, of equal ones the \
         earliest, and the others are named. Another version of a framework or a driver is named, not left out.\n\
         - **Pooled figures** are geometric means of the medians of nights and rounds, each counting the same, with a 95 % \
         bootstrap interval resampled within them. Ratios of frameworks are taken within a night and a round.\n\
         - **Nights differ** where Cochran's Q on the logarithms has p < {NIGHTS_P} and the highest is above the lowest by \
         {} at least. The standard deviation between nights is DerSimonian and Laird's; the interval of the mean over nights \
         is Hartung and Knapp's (never narrower than the nights' own uncertainty). It needs two nights with five values each.\n\
         - All else as in each run's own report.\n\n### Raw data\n\n",
        percent(NIGHTS_SHARE)
    );
    let mut files = Table::new(["file", "what"]);
    files.row([
        "`report.html`".to_owned(),
        "this report with its figures".to_owned(),
    ]);
    files.row(["`study.json`".to_owned(), "all figures of all runs".to_owned()]);
    files.row([
        "`summary.csv`".to_owned(),
        "one row a cell and run; the columns of a run's own, `run_id` and `machine` at the end".to_owned(),
    ]);
    for (machine, night, run) in runs(study) {
        files.row([
            format!("`{}`", escape(&run.run_id)),
            format!(
                "{}, night {night}: its folder has the records",
                escape(&machine.name)
            ),
        ]);
    }
    let _ = writeln!(text, "{files}");
    text
}
