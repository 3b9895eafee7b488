//! `benchd selfcheck`: measures this client against the simulated server on this machine.

use std::{fs, path::Path};

use serde::Serialize;

use super::{CommandResult, DONE, answer, runtime};
use crate::{
    check::host_info,
    cli::SelfcheckArgs,
    run::{Context as _, Failure},
    selfcheck::{self, MAX_STREAMS, Options},
};
use benchd_journal::{ClientCalibration, HostInfo, write_atomic};

/// Version of the stored result.
const VERSION: u32 = 1;

/// What is stored.
#[derive(Serialize)]
struct Stored<'a> {
    v: u32,
    benchd_version: &'static str,
    /// Whether benchd was built without optimisation: its figures then say little.
    debug_build: bool,
    host: HostInfo,
    client: &'a ClientCalibration,
}

/// Measures, stores, prints.
///
/// # Errors
/// When a number of streams is out of range (2), or the server or the load can't be run or the result can't be
/// stored (3).
pub(super) fn run(args: SelfcheckArgs) -> CommandResult {
    if let Some(wrong) = args.streams.iter().find(|n| !(1..=MAX_STREAMS).contains(*n)) {
        return Err(Failure::plan(format_args!(
            "--streams {wrong}: a self-check has 1 to {MAX_STREAMS}"
        )));
    }
    let program = std::env::current_exe().context("benchd's own program can't be found")?;
    let mut options = if args.quick {
        Options::quick(program)
    } else {
        Options::whole(program)
    };
    if !args.streams.is_empty() {
        options.streams = args.streams;
    }
    options.burst = args.burst;
    if args.no_rate {
        options.time_a_rate = None;
    }
    let runtime = runtime()?;
    let found = runtime
        .block_on(selfcheck::measure(&options, &|what| {
            eprintln!("measuring  {what}");
        }))
        .map_err(Failure::machine)?;
    let stored = Stored {
        v: VERSION,
        benchd_version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        host: host_info(),
        client: &found,
    };
    let text = serde_json::to_string_pretty(&stored).context("the result is no JSON")? + "\n";
    store(&args.output, &text)?;
    let mut shown = if args.json { text } else { selfcheck::table(&found) };
    if stored.debug_build && !args.json {
        shown += "this benchd is a debug build: a release build is several times faster\n";
    }
    answer(&shown)?;
    eprintln!("stored in {}", args.output.display());
    DONE
}

fn store(path: &Path, text: &str) -> Result<(), Failure> {
    // A bare name has an empty parent, in which nothing can be made.
    let path = Path::new(".").join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context(&format!("{} can't be made", folder.display()))?;
    }
    write_atomic(&path, text.as_bytes()).map_err(Failure::machine)
}
