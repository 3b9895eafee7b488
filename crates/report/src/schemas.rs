//! JSON Schemas of what benchd writes for programs, made from the types that write it.

use serde_json::Value;

use benchd_analysis::{
    RUN_COMPARISON_VERSION, RunComparison, RunSummary, STUDY_VERSION, SUMMARY_VERSION, Study,
};
use benchd_core::record::{GPU_SAMPLE_VERSION, GpuSample, REQUEST_RECORD_VERSION, RequestRecord};
use benchd_journal::{Entry, JOURNAL_VERSION, RUN_INFO_VERSION, RunInfo};

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    /// A plan
    Plan,
    /// A run's run.json
    Run,
    /// A line of journal.jsonl
    Journal,
    /// A run's summary.json
    Summary,
    /// study.json: the report of several runs
    Study,
    /// What `benchd compare --format json` prints
    Compare,
    /// A line of requests.jsonl
    Request,
    /// A line of gpu.jsonl
    Gpu,
}

impl SchemaOf {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Plan,
        Self::Run,
        Self::Journal,
        Self::Summary,
        Self::Study,
        Self::Compare,
        Self::Request,
        Self::Gpu,
    ];

    /// Its committed file under `schemas/`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plan => "plan.schema.json",
            Self::Run => "run.schema.json",
            Self::Journal => "journal.schema.json",
            Self::Summary => "summary.schema.json",
            Self::Study => "study.schema.json",
            Self::Compare => "compare.schema.json",
            Self::Request => "request.schema.json",
            Self::Gpu => "gpu.schema.json",
        }
    }
}

/// The JSON Schema.
pub fn schema_of(what: SchemaOf) -> Value {
    let (schema, title) = match what {
        SchemaOf::Plan => return benchd_plan::schema(),
        SchemaOf::Run => (schemars::schema_for!(RunInfo), "benchd run.json"),
        SchemaOf::Journal => (schemars::schema_for!(Entry), "a line of benchd's journal.jsonl"),
        SchemaOf::Summary => (schemars::schema_for!(RunSummary), "benchd summary.json"),
        SchemaOf::Study => (schemars::schema_for!(Study), "benchd study.json"),
        SchemaOf::Compare => (
            schemars::schema_for!(RunComparison),
            "benchd compare --format json",
        ),
        SchemaOf::Request => (
            schemars::schema_for!(RequestRecord),
            "a line of benchd's requests.jsonl",
        ),
        SchemaOf::Gpu => (schemars::schema_for!(GpuSample), "a line of benchd's gpu.jsonl"),
    };
    let mut value = schema.to_value();
    tidy(&mut value);
    if let Some(root) = value.as_object_mut() {
        root.insert("title".to_owned(), title.into());
    }
    value
}

/// What descriptions call by the name of a constant.
const VERSIONS: [(&str, u32); 7] = [
    ("SUMMARY_VERSION", SUMMARY_VERSION),
    ("STUDY_VERSION", STUDY_VERSION),
    ("RUN_COMPARISON_VERSION", RUN_COMPARISON_VERSION),
    ("RUN_INFO_VERSION", RUN_INFO_VERSION),
    ("JOURNAL_VERSION", JOURNAL_VERSION),
    ("REQUEST_RECORD_VERSION", REQUEST_RECORD_VERSION),
    ("GPU_SAMPLE_VERSION", GPU_SAMPLE_VERSION),
];

/// Descriptions become one line each and say what stands in the file, not in the source.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text
                    .replace('\n', " ")
                    .replace("`None`", "null")
                    .replace("[`", "`")
                    .replace("`]", "`");
                for (name, version) in VERSIONS {
                    *text = text.replace(&format!("`{name}`"), &version.to_string());
                }
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
