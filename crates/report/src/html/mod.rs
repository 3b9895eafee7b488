//! `report.html`: one self-contained file, made of a [`Study`].
//!
//! The text is the report's own Markdown, part by part ([`markdown`]), so that both say the same. The page adds what
//! text can't do: contents, marks, verdicts that open, answers side by side, and the figures. [`charts`] draws those as
//! SVG that needs no script, so that print and mail show them; `report.js` only adds what a pointer can ask for.
//! Nothing is loaded from anywhere; the page's own policy forbids it.

mod answers;
pub mod charts;
mod markdown;
mod page;
mod text;

pub(super) use page::study_html;
pub use page::{RunParts, report_html};
