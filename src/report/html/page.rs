//! The page: head, contents, the parts in their order, the figures in their places.

use std::fmt::Write as _;

use super::{
    charts::{Figure, Place},
    markdown::{Entry, Page, html},
    text::{escape, with_korean},
};
use crate::{
    analysis::Study,
    plan::Plan,
    report::markdown::{About, Section, sections},
};

/// The page's own policy: nothing from outside, whatever a text in it might ask for.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'";

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page needs of a run beside its summary.
#[derive(Debug, Clone, Copy)]
pub struct RunParts<'a> {
    /// The run's own plan (its frozen copy).
    pub plan: &'a Plan,
}

/// The whole page. `runs` are by machine and night, as in the study; `figures` of all machines.
pub fn report_html(study: &Study, runs: &[Vec<RunParts<'_>>], figures: &[Figure]) -> String {
    let mut page = Page::new(
        runs.iter()
            .flatten()
            .flat_map(|run| run.plan.frameworks.keys().map(String::as_str)),
    );
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
                body.push_str(&part(&section, &mut page, &figures_of(figures, m)));
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

fn figures_of(figures: &[Figure], machine: usize) -> Vec<&Figure> {
    figures.iter().filter(|f| f.machine == machine).collect()
}

/// One part of the report, with its figures: those of a model under the model's heading, the others under the part's.
fn part(section: &Section, page: &mut Page, figures: &[&Figure]) -> String {
    let place = match section.about {
        About::Glance => Some(Place::Glance),
        About::Scenario(kind) => Some(Place::Scenario(kind)),
        About::Operations => Some(Place::Operations),
        About::Title | About::Text => None,
    };
    let here: Vec<&Figure> = figures
        .iter()
        .copied()
        .filter(|f| Some(f.place) == place)
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
        _ => format!("<section>\n{inner}</section>\n"),
    }
}

fn figure(f: &Figure) -> String {
    format!(
        "<figure id=\"{}\"><figcaption><b>{}</b> {}</figcaption>\n{}\n</figure>\n",
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
{STYLE}</style>
</head>
<body>
<nav aria-label=\"contents\"><details open><summary>Contents</summary>
<ul>
{contents}</ul></details></nav>
<main>
{body}</main>
<script>
{SCRIPT}</script>
</body>
</html>
",
        escape(title)
    )
}
