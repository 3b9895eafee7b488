//! The client's own short check before the first lane: how large its error is on this machine, on this day.

use super::{Begun, Display, Signals, Tone, lanes::say};
use crate::selfcheck::{self, Options, SelfcheckError};
use benchd_plan::{Lane, most_streams};

/// Measures the client and stores the result in `run.json`. A run whose client could not be measured goes on, and
/// its report says so.
pub(super) async fn run(begun: &mut Begun, lanes: &[Lane], signals: &Signals, display: &Display) {
    let widest = lanes.iter().map(most_streams).max().unwrap_or(1);
    let measured = async {
        let program = std::env::current_exe().map_err(SelfcheckError::Start)?;
        let show = |what: &str| display.status(format!("measuring the client  {what}"));
        selfcheck::measure(&Options::of_run(program, widest), &show).await
    };
    let found = tokio::select! {
        () = signals.clean().cancelled() => return,
        found = measured => found,
    };
    match found {
        Ok(found) => {
            say(display, Tone::Plain, &selfcheck::summary_line(&found));
            begun.info.client = Some(found);
            if let Err(error) = begun.info.write(&begun.dir.run_json()) {
                say(
                    display,
                    Tone::Bad,
                    &format!("run.json could not be written: {error}"),
                );
            }
        }
        Err(error) => say(
            display,
            Tone::Warn,
            &format!("note  the client could not be measured, its error is not known: {error}"),
        ),
    }
}
