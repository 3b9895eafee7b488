//! benchd's own log: structured lines in `logs/<run-id>/benchd.log`.

use std::{
    fs::OpenOptions,
    path::Path,
    sync::{Arc, Mutex},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt};

/// Variable that sets the log's detail, in `tracing`'s filter syntax (`debug`, `benchd=trace`).
const FILTER_VARIABLE: &str = "BENCHD_LOG";

/// Ends with the run.
#[derive(Debug)]
pub(super) struct Log {
    _guard: Option<DefaultGuard>,
}

/// Sends everything that benchd logs from now on to this file, one JSON object a line; `info` and worse, or what
/// `BENCHD_LOG` says.
///
/// # Errors
/// When the file can't be opened.
pub(super) fn to_file(path: &Path) -> std::io::Result<Log> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::registry().with(filter).with(
        fmt::layer()
            .json()
            .with_writer(Mutex::new(file))
            .with_thread_names(true),
    );
    let subscriber = Arc::new(subscriber);
    // Other threads log too, so the subscriber is global; a second run in one process (tests) has its own.
    match tracing::subscriber::set_global_default(Arc::clone(&subscriber)) {
        Ok(()) => Ok(Log { _guard: None }),
        Err(_) => Ok(Log {
            _guard: Some(tracing::subscriber::set_default(subscriber)),
        }),
    }
}
