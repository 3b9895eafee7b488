//! The figures of the report: drawn here as SVG, placed by the page.

use crate::plan::ScenarioKind;

/// Where in the report a figure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the comparison at a glance.
    Glance,
    /// In a scenario's section.
    Scenario(ScenarioKind),
    /// In the section on operations.
    Operations,
}

/// One figure, ready for the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Unique in the page; letters, digits and dashes.
    pub id: String,
    /// Where it stands.
    pub place: Place,
    /// Index of the machine in the study.
    pub machine: usize,
    /// The model; `None` where it is about all of them.
    pub model: Option<String>,
    /// Heading, plain text: what is shown, with its unit.
    pub title: String,
    /// Below it, plain text: how to read it, what it does not say.
    pub caption: String,
    /// HTML of the figure: an inline `<svg>` (and its legend), all text escaped.
    pub html: String,
}
