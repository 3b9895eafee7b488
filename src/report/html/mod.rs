//! `report.html`: one self-contained file, made of a [`Study`](crate::analysis::Study).
//!
//! The page ([`page`](self)) places sections, tables and figures; [`charts`] draws the figures as SVG that needs no
//! script, so that print and mail show them; `report.js` only adds what a pointer can ask for.

pub mod charts;
