//! What the runs say of the hypotheses, the document's expectations and its rankings: the words of a verdict.
//!
//! A verdict is computed from thresholds that the plan states beforehand, never written by hand. Lanes that are
//! missing make it inconclusive, never an error.

use serde::{Deserialize, Serialize};

use benchd_core::{
    record::{FlagKind, LaneId},
    stats::Interval,
};
use benchd_plan::ScenarioKind;

/// What became of a hypothesis or of one of its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// The interval lies wholly on the claim's side of the threshold.
    Supported,
    /// The interval lies wholly on the other side.
    Refuted,
    /// It holds the threshold, or something that is needed is missing.
    Inconclusive,
}

/// One hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// `H1`, or the plan's own name.
    pub hypothesis: String,
    /// The claim in words.
    pub claim: String,
    /// The claim as the user's document words it, where it is one of that.
    pub claim_ko: Option<String>,
    /// Over all models: what all say, else inconclusive.
    pub outcome: VerdictOutcome,
    /// One sentence for people: the outcome with the figure that decides it.
    pub because: String,
    /// By model, in the plan's order.
    pub models: Vec<ModelVerdict>,
}

/// One hypothesis for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModelVerdict {
    /// The model.
    pub model: String,
    /// What its deciding tests say together.
    pub outcome: VerdictOutcome,
    /// One sentence for people.
    pub because: String,
    /// The tests, deciding ones first.
    pub tests: Vec<VerdictTest>,
    /// Flags of the cells used that make the verdict weaker.
    pub weakened_by: Vec<Weakness>,
    /// What was decided beforehand by how the servers were set up (`OLLAMA_NUM_PARALLEL=1`, quantised weights).
    pub decided_by_configuration: Vec<String>,
    /// What it would take to decide it; empty where it is decided.
    pub to_decide: Vec<String>,
}

/// What a test is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestRole {
    /// The verdict follows from it.
    Deciding,
    /// Told beside it.
    Supporting,
    /// Shows whether the cause is the one that the hypothesis names.
    Control,
    /// Would decide, but one side has no figures in its setting, and others are left: the verdict does without it.
    LeftOut,
}

/// On which side of the threshold the claim lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At or above it.
    AtLeast,
    /// At or below it.
    AtMost,
    /// Away from 1 by more than it, on either side: above it or below one over it (a difference).
    Away,
    /// Nearer to 1 than it, on either side (no difference that matters).
    Within,
}

/// One comparison against one threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VerdictTest {
    /// What is compared, in words.
    pub what: String,
    /// What it is for.
    pub role: TestRole,
    /// The figure: `output_tokens_per_s`, `ttft_ms`, `latency_ms`, `later_over_first`, …
    pub figure: String,
    /// The framework that the claim is about.
    pub framework: String,
    /// The framework that it is compared with.
    pub against: String,
    /// The effect: framework over `against`, a ratio where nothing else is said.
    pub effect: Option<f64>,
    /// Its interval. Its level is 95 %, or more where the claim is that some test of several holds (`level` says it).
    /// `None` with too few values to tell.
    pub interval: Option<Interval>,
    /// The threshold that the plan states, in the effect's unit.
    pub threshold: f64,
    /// On which side of it the claim lies.
    pub side: Side,
    /// What it says.
    pub outcome: VerdictOutcome,
    /// Why it says nothing, where it is inconclusive.
    pub why: Option<String>,
    /// The same as one sentence for people.
    pub says: String,
    /// Cells used, of both frameworks: `concurrent/c16`.
    pub cells: Vec<String>,
}

/// A flag of a cell that a verdict uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Weakness {
    /// The lane.
    pub lane: LaneId,
    /// The cell.
    pub cell: String,
    /// The flag.
    pub kind: FlagKind,
    /// Its text.
    pub text: String,
}

/// What became of something that the document expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// As expected.
    AsExpected,
    /// Otherwise.
    Otherwise,
    /// In part, or within the uncertainty.
    Unclear,
    /// The lanes or cells that would tell were not measured.
    NotMeasured,
}

/// One expected result of the user's document (5.1 to 5.5) or one of its rankings (9.2), for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Expectation {
    /// Section of the document: `5.1` to `5.5`, `9.2`.
    pub section: String,
    /// The scenario; `None` for rankings over all.
    pub scenario: Option<ScenarioKind>,
    /// What the document expects, in English.
    pub expected: String,
    /// The document's own words.
    pub expected_ko: String,
    /// The model.
    pub model: String,
    /// What became of it.
    pub outcome: Seen,
    /// What was seen, with figures.
    pub seen: String,
    /// Cells used.
    pub cells: Vec<String>,
}
