//! Whether the disk has room for a run, before it starts.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::finding::{Area, Finding};
use benchd_plan::{Cell, CellInput};

/// What to do where there is no room.
const REMEDY: &str = "make room, or choose another folder with --results / --logs";

/// A request record without its output: names, times, ids, usage.
const RECORD_BYTES: u64 = 1024;

/// What an output token adds to a record: its chunk's arrival time and its text (Korean: 3 bytes a character).
const BYTES_PER_OUTPUT_TOKEN: u64 = 16;

/// A token of a frozen prompt.
const BYTES_PER_PROMPT_TOKEN: u64 = 6;

/// A written prompt of the Korean scenario.
const WRITTEN_PROMPT_BYTES: u64 = 4096;

/// A GPU sample, with its processes.
const GPU_SAMPLE_BYTES: u64 = 640;

/// GPU samples a second and device.
const GPU_SAMPLES_PER_S: u64 = 10;

/// What a server usually logs in one life; at most it is 256 MiB.
const SERVER_LOG_BYTES: u64 = 4 << 20;

/// Journal, benchd's own log, report and summaries.
const OTHER_BYTES: u64 = 8 << 20;

/// Free space below this many times what a run is expected to write is worth a warning: the estimate knows
/// neither a server that floods its log nor what else fills the disk overnight.
const TIGHT_FACTOR: u64 = 4;

/// What a run is expected to write, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) results: u64,
    pub(super) logs: u64,
}

/// Estimates what a run writes: `cells` are those to measure, `lanes` the server lives, `takes` its duration.
pub(super) fn expected<'a>(
    cells: impl IntoIterator<Item = &'a Cell>,
    lanes: u64,
    devices: u64,
    takes: Duration,
) -> Expected {
    let mut results = OTHER_BYTES;
    for cell in cells {
        let counted = u64::from(cell.requests_per_pass) * u64::from(cell.passes);
        let requests = counted + u64::from(cell.warmup);
        let prompt = match cell.input {
            CellInput::Exact { input_tokens } => u64::from(input_tokens) * BYTES_PER_PROMPT_TOKEN,
            CellInput::SharedPrefix {
                system_tokens,
                question_tokens,
            } => (u64::from(system_tokens) + u64::from(question_tokens)) * BYTES_PER_PROMPT_TOKEN,
            CellInput::Written { .. } => WRITTEN_PROMPT_BYTES,
        };
        let record = RECORD_BYTES + u64::from(cell.output_tokens) * BYTES_PER_OUTPUT_TOKEN;
        results += requests * (record + prompt);
    }
    results += takes.as_secs() * GPU_SAMPLES_PER_S * GPU_SAMPLE_BYTES * devices;
    Expected {
        results,
        logs: lanes * SERVER_LOG_BYTES,
    }
}

/// What the free space means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    Tight,
    TooLittle,
}

/// Judges free space against what is expected, bytes both.
pub(super) fn judge(free: u64, expected: u64) -> Room {
    if free < expected {
        Room::TooLittle
    } else if free < expected.saturating_mul(TIGHT_FACTOR) {
        Room::Tight
    } else {
        Room::Enough
    }
}

/// Looks at the file systems of results and logs. Where free space can't be told, the run notices.
///
/// # Errors
/// There is clearly too little room; with a remedy.
pub(super) fn check(results: &Path, logs: &Path, expected: Expected) -> Result<Finding, Finding> {
    let (results, logs) = (existing(results), existing(logs));
    let same = device(&results).is_some() && device(&results) == device(&logs);
    let places = if same {
        vec![(results, expected.results + expected.logs)]
    } else {
        vec![(results, expected.results), (logs, expected.logs)]
    };
    let mut enough = Vec::new();
    let mut tight = None;
    for (place, needed) in places {
        let Some(free) = free_bytes(&place) else { continue };
        let told = format!(
            "{} MiB free on the file system of {}, the run is expected to write about {} MiB",
            free >> 20,
            place.display(),
            (needed >> 20).max(1)
        );
        match judge(free, needed) {
            Room::Enough => enough.push(told),
            Room::Tight => {
                tight = Some(Finding::warn(
                    Area::Disk,
                    format!("disk space is tight: {told}"),
                    REMEDY,
                ));
            }
            Room::TooLittle => {
                return Err(Finding::stop(
                    Area::Disk,
                    format!("too little disk space: {told}"),
                    REMEDY,
                ));
            }
        }
    }
    Ok(tight.unwrap_or_else(|| match enough.is_empty() {
        true => Finding::note(Area::Disk, "how much disk space is free can't be told"),
        false => Finding::ok(Area::Disk, enough.join("; ")),
    }))
}

/// The nearest folder that exists: the run makes the rest.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|p| p.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn device(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.dev())
}

/// What an ordinary user may still fill.
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged() {
        assert_eq!(judge(99, 100), Room::TooLittle);
        assert_eq!(judge(100, 100), Room::Tight);
        assert_eq!(judge(399, 100), Room::Tight);
        assert_eq!(judge(400, 100), Room::Enough);
    }

    #[test]
    fn the_estimate_grows_with_requests_time_and_lanes() {
        let plan = "version: 1\nname: x\nmodels: { m: { openai: m } }\n\
             frameworks: { f: { kind: openai, command: [x, \"{port}\"], port: 1 } }\n\
             scenarios: { single: { input_tokens: [1000], output_tokens: 100, repeats: 10, warmup: 0 } }\n";
        let plan = benchd_plan::parse("x.yaml", plan, &|_| None).unwrap();
        let lanes = benchd_plan::lanes(&plan, &benchd_plan::Only::parse(&[]).unwrap());
        let hour = Duration::from_secs(3600);
        let one = expected(&lanes[0].cells, 1, 1, hour);
        assert_eq!(one.results, OTHER_BYTES + 10 * (1024 + 1600 + 6000) + 3600 * 6400);
        assert_eq!(one.logs, 4 << 20);
        assert_eq!(expected(&lanes[0].cells, 3, 0, hour).logs, 12 << 20);
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let huge = Expected {
            results: u64::MAX / 8,
            logs: 1,
        };
        let refused = check(&dir.path().join("not/there"), dir.path(), huge).unwrap_err();
        assert!(
            refused.text.contains("MiB free") && refused.remedy.is_some(),
            "{refused}"
        );
        let little = Expected { results: 1, logs: 1 };
        assert!(!check(dir.path(), dir.path(), little).unwrap().severity.forbids());
    }
}
