//! The committed schema is current, and every shipped plan fits it and parses.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{load, schema};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn shipped() -> Vec<PathBuf> {
    let mut plans: Vec<PathBuf> = fs::read_dir(root().join("plans"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    plans.sort();
    assert!(plans.len() >= 3, "{plans:?}");
    plans
}

#[test]
fn the_committed_schema_is_current() {
    let path = root().join("schemas/plan.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("BENCHD_UPDATE").is_some() {
        fs::write(&path, &current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "schemas/plan.schema.json is stale: run `BENCHD_UPDATE=1 cargo test --lib the_committed_schema`"
    );
}

#[test]
fn every_shipped_plan_parses_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for path in shipped() {
        let loaded = load(&path, &|_| None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            Some(loaded.plan.name.as_str()),
            path.file_stem().and_then(|s| s.to_str())
        );
        let header = "# yaml-language-server: $schema=../schemas/plan.schema.json\n";
        assert!(loaded.text.starts_with(header), "{}", path.display());
        let value: serde_json::Value = serde_yaml::from_str(&loaded.text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_the_walk_refuses() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let fits = |text: &str| validator.is_valid(&serde_yaml::from_str(text).unwrap());
    assert!(fits(super::GOOD));
    for (from, to) in [
        ("repeats: 10", "repeats: 0"),
        ("repeats: 10", "repeat: 10"),
        ("version: 0.15.1", "version: 0.15"),
        ("version: 0.15.1", "kind: vlm"),
        ("gpu: none", "gpu: cuda"),
        ("gpu: none", "gpu: []"),
        ("gpu: none", "gpu: [0, 0]"),
        ("host: { gpu: none }", "host:"),
        ("host: { gpu: none }", "request: { timeout: 300 }"),
        ("host: { gpu: none }", "request: { timeout: 8d }"),
        ("host: { gpu: none }", "request: { timeout: \"\" }"),
        ("host: { gpu: none }", "request: { top_p: 0 }"),
        (
            "requests: 100",
            "requests: 100, arrival: { poisson: 4/s, constant: 1/s }",
        ),
        (
            "requests: 100",
            "requests: 100, arrival: { gamma: { rate: 4/s } }",
        ),
        ("requests: 100", "requests: 100, arrival: close"),
        ("requests: 100", "requests: 100, slo: {}"),
    ] {
        let text = super::with(from, to);
        assert!(!fits(&text), "{to}");
        assert!(!super::places(&text).is_empty(), "{to}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    let schema = schema();
    let described = |properties: &serde_json::Value, of: &str| {
        for (key, value) in properties.as_object().unwrap() {
            assert!(
                value["description"].as_str().is_some_and(|d| d.len() > 5),
                "{of}.{key}"
            );
        }
    };
    described(&schema["properties"], "plan");
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if definition.get("properties").is_some() {
            described(&definition["properties"], name);
            assert_eq!(definition["additionalProperties"], false, "{name}");
        }
    }
}
