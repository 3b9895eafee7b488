//! The sample report under docs/ is the report of a run of plans/quickstart.yaml that is kept as a fixture.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{fs, path::Path, process::Command};

/// Folder of the kept run's results.
const RUN: &str = "tests/fixtures/quickstart-run";

/// What benchd writes of it, and the committed copy: the samples that the README shows, and the figures as programs read
/// them.
const WRITTEN: [(&str, &str); 5] = [
    ("report.md", "docs/sample-report.md"),
    ("report.html", "docs/sample-report.html"),
    ("summary.csv", "tests/fixtures/quickstart-figures/summary.csv"),
    ("summary.json", "tests/fixtures/quickstart-figures/summary.json"),
    (
        "transcripts.md",
        "tests/fixtures/quickstart-figures/transcripts.md",
    ),
];

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_sample_report_is_what_this_benchd_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    copy(&root.join(RUN), &dir.path().join("run"));
    let out = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .current_dir(dir.path())
        .args(["report", "run", "--results", "."])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for (name, sample) in WRITTEN {
        let written = fs::read_to_string(dir.path().join("run").join(name)).unwrap();
        if std::env::var_os("BENCHD_UPDATE").is_some() {
            fs::write(root.join(sample), &written).unwrap();
        }
        let committed = fs::read_to_string(root.join(sample)).unwrap_or_default();
        assert!(
            written == committed,
            "{sample} is stale\n  hint: BENCHD_UPDATE=1 cargo test --test it sample_report"
        );
    }
}
