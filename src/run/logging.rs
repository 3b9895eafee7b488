//! benchd's own log: structured lines in `logs/<run-id>/benchd.log`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt};

use benchd_core::record::Redactor;

/// Variable that sets the log's detail, in `tracing`'s filter syntax (`debug`, `benchd=trace`).
const FILTER_VARIABLE: &str = "BENCHD_LOG";

/// Ends with the run.
#[derive(Debug)]
pub(super) struct Log {
    _guard: Option<DefaultGuard>,
}

/// Sends everything that benchd logs from now on to this file, one JSON object a line; `info` and worse, or what
/// `BENCHD_LOG` says. No line shows what `redactor` looks for.
///
/// # Errors
/// When the file can't be opened.
pub(super) fn to_file(path: &Path, redactor: &Redactor) -> std::io::Result<Log> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::registry().with(filter).with(
        fmt::layer()
            .json()
            .with_writer(to_lines(file, redactor.clone()))
            // A full disk stops the run with its own words; the log must not flood stderr before that.
            .log_internal_errors(false)
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

/// Writers to the file, each for one line.
fn to_lines(file: File, redactor: Redactor) -> impl for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static {
    let file = Arc::new(file);
    move || Clean {
        file: Arc::clone(&file),
        redactor: redactor.clone(),
    }
}

/// Writes what the formatter gives, which is a whole line at a time, without secrets.
struct Clean {
    file: Arc<File>,
    redactor: Redactor,
}

impl Write for Clean {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        // One call to a file opened for appending: lines of several threads do not mix.
        (&*self.file).write_all(self.redactor.text(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
