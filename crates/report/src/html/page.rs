//! The page: head, contents, the parts in their order, the figures in their places.

use std::fmt::Write as _;

use super::{
    answers,
    charts::{self, Figure, Keys, Place, Scheme},
    markdown::{Entry, Page, html},
    text::{escape, with_korean},
};
use crate::{
    Transcripts,
    markdown::{About, Link, Section, sections, study_sections},
};
use benchd_analysis::{RunSeries, Study};
use benchd_plan::Plan;

/// The page's own policy: nothing from outside, whatever a text in it might ask for.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'";

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("page.js");
/// What a pointer can ask of the figures.
const FIGURES_SCRIPT: &str = include_str!("report.js");

/// Colours of the page's own, beside those of the figures.
const LIGHT: &str = "--panel:#f5f6f7;--rule:#d8dce1;--link:#1154bb;--good:#14653a;--bad:#a3262a;--unsure:#6f5200;\
                     --good-bg:#e4f3ea;--bad-bg:#fbe9e8;--unsure-bg:#faf1d6;--best:#14653a;";
const DARK: &str = "--panel:#1d2127;--rule:#363d46;--link:#8ab4ff;--good:#83d6a2;--bad:#f5a09b;--unsure:#e6c766;\
                    --good-bg:#17301f;--bad-bg:#3d2120;--unsure-bg:#352d16;--best:#83d6a2;";

/// What the page needs of a run beside its summary.
#[derive(Debug, Clone, Copy)]
pub struct RunParts<'a> {
    /// The run's own plan (its frozen copy).
    pub plan: &'a Plan,
    /// Answers side by side, where there are some.
    pub transcripts: Option<&'a Transcripts>,
}

/// The whole page. `runs` and `series` are by machine and night, as in the study; where series are missing, so are the
/// figures that are drawn from them.
pub fn report_html(study: &Study, runs: &[Vec<RunParts<'_>>], series: &[Vec<RunSeries>]) -> String {
    let figures = charts::figures(study, series);
    let mut page = Page::new(Keys::of(study), figures.iter().map(|f| f.id.clone()));
    let mut body = String::new();
    let several = study.machines.len() > 1;
    for (m, (machine, parts)) in study.machines.iter().zip(runs).enumerate() {
        if several {
            page.set_prefix(format!("m{}-", m + 1));
            let heading = page.heading(2, &machine.name, &with_korean(&machine.name));
            let _ = write!(body, "<div class=\"machine\">{heading}</div>");
        }
        for (run, parts) in machine.runs.iter().zip(parts) {
            for section in sections(run, parts.plan) {
                // After all scenarios, before what they ran on.
                if section.about == About::Operations
                    && let Some(transcripts) = parts.transcripts
                {
                    body.push_str(&answers::section(transcripts, &mut page));
                }
                body.push_str(&part(&section, &mut page, &figures_of(&figures, m)));
            }
        }
    }
    let title = study
        .machines
        .iter()
        .flat_map(|m| &m.runs)
        .map(|run| run.plan.as_str())
        .next()
        .unwrap_or("report");
    document(title, &contents(&page.contents), &body)
}

/// The page of several runs: nights pooled, machines side by side. Each run has a page of its own beside it.
pub(crate) fn study_html(study: &Study, link: Link<'_>, series: &[Vec<RunSeries>]) -> String {
    let mut figures = charts::figures(study, series);
    if study.machines.len() > 1 {
        for figure in &mut figures {
            if let Some(machine) = figure.machine.and_then(|at| study.machines.get(at)) {
                figure.title = format!("{}: {}", machine.name, figure.title);
            }
        }
    }
    let all: Vec<&Figure> = figures.iter().collect();
    let mut page = Page::new(Keys::of(study), figures.iter().map(|f| f.id.clone()));
    let body: String = study_sections(study, link)
        .iter()
        .map(|section| part(section, &mut page, &all))
        .collect();
    document("several runs", &contents(&page.contents), &body)
}

fn figures_of(figures: &[Figure], machine: usize) -> Vec<&Figure> {
    figures.iter().filter(|f| f.machine == Some(machine)).collect()
}

/// One part of the report, with its figures: those of a model under the model's heading, the others under the part's.
fn part(section: &Section, page: &mut Page, figures: &[&Figure]) -> String {
    let place = match section.about {
        About::Glance => Some(Place::Glance),
        About::Scenario(kind) => Some(Place::Scenario(kind)),
        About::Operations => Some(Place::Operations),
        About::Title | About::Verdicts | About::Tests | About::Text => None,
    };
    let here: Vec<&Figure> = figures
        .iter()
        .copied()
        .filter(|f| Some(f.place) == place && page.place(&f.id))
        .collect();
    let mut after = |level: u8, title: &str| {
        let of: Vec<&&Figure> = match level {
            2 => here.iter().filter(|f| f.model.is_none()).collect(),
            3 => here
                .iter()
                .filter(|f| f.model.as_deref() == Some(title))
                .collect(),
            _ => Vec::new(),
        };
        if of.is_empty() {
            return String::new();
        }
        let figures: Vec<String> = of.into_iter().map(|f| figure(f)).collect();
        format!("<div class=\"figures\">\n{}</div>\n", figures.concat())
    };
    let inner = html(&section.text, page, &mut after);
    match section.about {
        About::Title => format!("<header>\n{inner}</header>\n"),
        About::Tests => format!("<section>\n{}</section>\n", folded(&inner)),
        _ => format!("<section>\n{inner}</section>\n"),
    }
}

/// Each hypothesis opens where somebody wants to know: its heading is what is seen of it.
fn folded(html: &str) -> String {
    let mut parts = html.split("<h3 ");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (heading, rest) = part.split_once("</h3>\n").unwrap_or((part, ""));
        let _ = write!(
            out,
            "<details class=\"test\"><summary><h3 {heading}</h3></summary>\n{rest}</details>\n"
        );
    }
    out
}

fn figure(f: &Figure) -> String {
    format!(
        "<figure class=\"fig\" id=\"{}\"><figcaption><b>{}</b> {}</figcaption>\n{}\n</figure>\n",
        escape(&f.id),
        with_korean(&f.title),
        with_korean(&f.caption),
        f.html
    )
}

/// The table of contents: parts, and under them what they hold.
fn contents(entries: &[Entry]) -> String {
    let mut out = String::new();
    let mut open = false;
    for entry in entries {
        let link = format!("<a href=\"#{}\">{}</a>", entry.id, with_korean(&entry.title));
        if entry.level == 2 {
            if open {
                out.push_str("</ul></li>\n");
            }
            let _ = write!(out, "<li>{link}<ul>");
            open = true;
        } else if open {
            let _ = write!(out, "<li>{link}</li>");
        }
    }
    if open {
        out.push_str("</ul></li>\n");
    }
    // A list without items is no list.
    out.replace("<ul></ul>", "")
}

/// Colours by day, by night, and on paper.
fn variables() -> String {
    let (light, dark) = (
        charts::chart_variables(Scheme::Light),
        charts::chart_variables(Scheme::Dark),
    );
    format!(
        ":root{{{light}{LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}{DARK}}}}}\n@media \
         print{{:root{{{light}{LIGHT}}}}}\n"
    )
}

fn document(title: &str, contents: &str, body: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<meta name=\"referrer\" content=\"no-referrer\">
<title>benchd: {}</title>
<style>
{}{STYLE}{}</style>
</head>
<body>
<nav aria-label=\"contents\"><details open><summary>Contents</summary>
<ul>
{contents}</ul></details></nav>
<main>
{body}</main>
<script>
{SCRIPT}{FIGURES_SCRIPT}</script>
</body>
</html>
",
        escape(title),
        variables(),
        charts::chart_rules(),
    )
}
