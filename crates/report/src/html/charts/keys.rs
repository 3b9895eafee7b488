//! Which framework has which colour, marker and dash: by the order of the plan, the same in all figures of a report.

use std::fmt::Write as _;

use super::{super::text::escape, palette::COLOURS, svg::marker};
use crate::names::Names;
use benchd_analysis::Study;

/// The frameworks of a study, in the order in which the lanes of its runs first name them: the plan's.
#[derive(Debug)]
pub(in super::super) struct Keys {
    names: Vec<String>,
    /// How they are named with version and precision.
    shown: Names,
}

/// One framework's place in the order, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Key(pub(super) usize);

impl Key {
    /// Opens a group of the framework's marks.
    pub(super) fn open(self) -> String {
        format!("<g class=\"f{}\" data-fw=\"{}\">", self.0 % COLOURS + 1, self.0)
    }

    /// Opens a mark with what it says when it is pointed at.
    pub(super) fn open_mark(self, tip: &str) -> String {
        format!(
            "<g class=\"mk f{}\" data-fw=\"{}\"><title>{}</title>",
            self.0 % COLOURS + 1,
            self.0,
            escape(tip)
        )
    }

    /// Its marker beside its name in a text.
    pub(in super::super) fn mark(self) -> String {
        format!(
            "<svg class=\"key f{}\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path class=\"pt\" d=\"{}\"/></svg>",
            self.0 % COLOURS + 1,
            self.marker(6.0, 6.0, 4.2)
        )
    }

    /// The path of its marker.
    pub(super) fn marker(self, x: f64, y: f64, r: f64) -> String {
        // Those that share a colour differ in shape.
        marker(self.0 + self.0 / COLOURS, x, y, r)
    }
}

impl Keys {
    pub(in super::super) fn of(study: &Study) -> Self {
        let mut names: Vec<String> = Vec::new();
        for lane in study.machines.iter().flat_map(|m| &m.runs).flat_map(|r| &r.lanes) {
            if !names.contains(&lane.lane.framework) {
                names.push(lane.lane.framework.clone());
            }
        }
        let lanes = study.machines.iter().flat_map(|m| &m.runs).flat_map(|r| &r.lanes);
        Self {
            names,
            shown: Names::of(lanes),
        }
    }

    /// The key of the framework of this name, by the plan or with version and precision, where a lane of the study has it.
    pub(in super::super) fn find(&self, name: &str) -> Option<Key> {
        let by_plan = |name: &str| self.names.iter().position(|n| n == name).map(Key);
        by_plan(name).or_else(|| by_plan(self.shown.framework_of(name)?))
    }

    pub(super) fn key(&self, framework: &str) -> Key {
        Key(self.names.iter().position(|n| n == framework).unwrap_or(0))
    }

    /// Sorts by the plan's order.
    pub(super) fn ordered<'a>(&self, frameworks: impl IntoIterator<Item = &'a str>) -> Vec<(Key, &'a str)> {
        let mut all: Vec<_> = frameworks.into_iter().map(|f| (self.key(f), f)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The legend of a figure that shows these frameworks, serving `model` where it is of one.
    pub(super) fn legend(&self, shown: &[Key], model: Option<&str>) -> String {
        let mut shown = shown.to_vec();
        shown.sort_unstable();
        shown.dedup();
        let mut out = "<ul class=\"legend\">".to_owned();
        for key in shown {
            let Some(name) = self.names.get(key.0) else {
                continue;
            };
            let shown = model.map_or_else(|| name.clone(), |model| self.shown.name(name, model));
            let _ = write!(
                out,
                "<li><span class=\"lk\" data-fw=\"{}\"><svg class=\"chart\" viewBox=\"0 0 34 14\" \
                 aria-hidden=\"true\"><g class=\"f{}\"><path class=\"ln\" d=\"M1 7L33 7\"/><path class=\"pt\" \
                 d=\"{}\"/></g></svg>{}</span></li>",
                key.0,
                key.0 % COLOURS + 1,
                key.marker(17.0, 7.0, 4.0),
                escape(&shown)
            );
        }
        out.push_str("</ul>");
        out
    }
}
