//! `benchd run`: runs a plan, or with `--dry-run` tells what it would do.

use super::{CommandResult, load_plan, narrowed_lanes};
use crate::{
    cli::RunArgs,
    run::{self, Context as _, Display, Failure, Purpose, RunOptions, Signals, Systemd},
};

mod dry_run;

/// Threads of the control runtime: journal, pumps, display and control calls. The load has its own.
const CONTROL_THREADS: usize = 2;

/// Runs the plan.
///
/// # Errors
/// When the plan or the arguments are wrong (2), or the machine is not fit (3).
pub(super) fn run(args: RunArgs) -> CommandResult {
    let loaded = load_plan(&args.plan)?;
    let lanes = narrowed_lanes(&loaded.plan, &args.only, "run")?;
    let redactor = run::redactor(&loaded);
    if args.dry_run {
        return dry_run::print(&args, &loaded, &lanes, &redactor);
    }
    drive(RunOptions {
        redactor,
        loaded,
        lanes,
        resume: args.resume,
        results: args.places.results,
        logs: args.places.logs,
        selfcheck: !args.no_selfcheck,
        skip_unfit: args.skip_unfit,
        purpose: Purpose::Measure,
    })
}

/// Runs lanes to their end.
///
/// # Errors
/// When the plan can't be gone on with (2), or the machine is not fit (3).
pub(super) fn drive(options: RunOptions) -> CommandResult {
    let redactor = options.redactor.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("benchd-control")
        .enable_all()
        .build()
        .context("the control runtime can't be started")?;
    let code = runtime.block_on(async {
        let signals = Signals::listen().context("signal handlers can't be installed")?;
        let systemd = Systemd::connect().context("the thread for systemd can't be started")?;
        run::run(options, &signals, &Display::new(redactor.clone(), systemd)).await
    });
    code.map_err(|failure: Failure| failure.redacted(&redactor))
}
