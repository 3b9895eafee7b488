//! The client's own short check before the first lane: how large its error is on this machine, on this day.

use super::{
    display::Display,
    lines::{Line, Status},
    signals::Signals,
    start::StartedRun,
};
use crate::selfcheck::{self, Options, SelfcheckError};
use benchd_plan::{Lane, most_streams};

/// Measures the client and stores the result in `run.json`. A run whose client could not be measured goes on, and
/// its report says so.
pub(super) async fn run(run: &mut StartedRun, lanes: &[Lane], signals: &Signals, display: &Display) {
    let widest = lanes.iter().map(most_streams).max().unwrap_or(1);
    let measured = async {
        let program = std::env::current_exe().map_err(SelfcheckError::Start)?;
        let show = |what: &str| display.status(&Status::Client(what));
        selfcheck::measure(&Options::of_run(program, widest), &show).await
    };
    let found = tokio::select! {
        () = signals.clean().cancelled() => return,
        found = measured => found,
    };
    match found {
        Ok(found) => {
            display.say(&Line::Client(&selfcheck::summary_line(&found)));
            run.info.client = Some(found);
            if let Err(error) = run.info.write(&run.dir.run_json()) {
                display.say(&Line::NoRunJson(&error));
            }
        }
        Err(error) => display.say(&Line::ClientUnknown(&error)),
    }
}
