//! What a run says to people, all of it: the lines that stay, and the status that does not.

use std::{fmt, path::Path, time::Duration};

use super::{duration::short_duration, lane_end::LaneEnd};
use crate::scenario::CellProgress;
use benchd_core::{format::counted, record::LaneId};
use benchd_journal::{LaneOutcome, RunDir};

/// How a line is meant. Colour only repeats what the word at its start says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Something ended well.
    Good,
    /// Something to look at.
    Warn,
    /// Something failed.
    Bad,
}

/// A line that stays, in about the order in which a run says them.
pub(super) enum Line<'a> {
    Run(&'a RunDir),
    Logs(&'a RunDir),
    Note(&'a dyn fmt::Display),
    Client(&'a str),
    ClientUnknown(&'a dyn fmt::Display),
    LaneStarted {
        lane: &'a LaneId,
        /// Position in the run, 1 on, and lanes in all.
        position: (usize, usize),
        attempt: u32,
    },
    Provisioning(&'a Path),
    AlsoOnGpu(&'a str),
    /// Who came, while the lane runs, and whether the plan wants the GPU for itself.
    StrangerCame(&'a str, bool),
    /// Who left, and how long it was there.
    StrangerLeft(&'a str, Duration),
    /// Who is waited for, and for how long at the longest.
    WaitingForStrangers(&'a str, Duration),
    /// After how long.
    AloneAgain(Duration),
    /// A cell that was measured beside a stranger.
    CellSpoilt(&'a str, &'a str),
    ServerReady(Duration),
    /// How many counts and how long it took.
    TextsFound(u32, Duration),
    /// Which can't be had, and why.
    TextsLeftOut(&'a str, &'a str),
    /// Tokens that were asked for, and those of the nearest text.
    TextOff(u32, u32),
    /// What the answers to the lane's questions are worth, and whether there is something to look at.
    Questions(&'a str, bool),
    /// Its figures, and whether requests failed.
    CellMeasured(&'a str, bool),
    CellUnreadable(&'a str, &'a dyn fmt::Display),
    CellFailed(&'a str, &'a str),
    ServerStopped {
        killed: bool,
        took: Duration,
        /// How long the GPU's memory took to come back, where there is a GPU.
        memory_back: Option<Duration>,
        /// Who else is on the GPU then; empty for nobody.
        beside: &'a str,
    },
    LaneEnded(&'a LaneId, &'a LaneEnd),
    RunStopped(&'a str),
    EndNotJournalled(&'a dyn fmt::Display),
    NoReport(&'a RunDir, &'a dyn fmt::Display),
    NoRunJson(&'a dyn fmt::Display),
    Took(Duration),
}

impl Line<'_> {
    pub(super) fn tone(&self) -> Tone {
        match self {
            Self::CellMeasured(_, false) | Self::Questions(_, false) => Tone::Good,
            Self::LaneEnded(_, end) => match end.outcome {
                LaneOutcome::Finished => Tone::Good,
                LaneOutcome::Interrupted => Tone::Warn,
                LaneOutcome::Failed => Tone::Bad,
            },
            Self::Note(_) | Self::ClientUnknown(_) | Self::AlsoOnGpu(_) => Tone::Warn,
            Self::StrangerCame(..) | Self::WaitingForStrangers(..) | Self::CellSpoilt(..) => Tone::Warn,
            Self::Questions(..) | Self::TextsLeftOut(..) | Self::TextOff(..) | Self::CellMeasured(..) => {
                Tone::Warn
            }
            Self::CellUnreadable(..) | Self::CellFailed(..) | Self::RunStopped(_) => Tone::Bad,
            Self::EndNotJournalled(_) | Self::NoReport(..) | Self::NoRunJson(_) => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => write!(f, "run {}  results in {}", run.id(), run.root().display()),
            Self::Logs(run) => write!(f, "logs {}", run.logs().display()),
            Self::Note(text) => write!(f, "note  {text}"),
            Self::Client(summary) => f.write_str(summary),
            Self::ClientUnknown(error) => {
                write!(
                    f,
                    "note  the client could not be measured, its error is not known: {error}"
                )
            }
            Self::LaneStarted {
                lane,
                position: (position, lanes),
                attempt,
            } => {
                write!(f, "lane {lane}  ({position} of {lanes})")?;
                match attempt {
                    1 => Ok(()),
                    attempt => write!(f, ", attempt {attempt}"),
                }
            }
            Self::Provisioning(recipe) => {
                write!(f, "  setting up missing dependencies: {}", recipe.display())
            }
            Self::AlsoOnGpu(named) => write!(f, "note  also on the GPU: {named}"),
            Self::StrangerCame(named, exclusive) => {
                write!(f, "  note  another process is on the GPU: {named}")?;
                if *exclusive {
                    f.write_str("; what is measured beside it is measured again")?;
                }
                Ok(())
            }
            Self::StrangerLeft(named, after) => write!(
                f,
                "  note  it has left the GPU after {}: {named}",
                short_duration(*after)
            ),
            Self::WaitingForStrangers(named, limit) => write!(
                f,
                "  waiting for the GPU, {} at the longest: {named}",
                short_duration(*limit)
            ),
            Self::AloneAgain(after) => write!(f, "  the GPU is free after {}", short_duration(*after)),
            Self::CellSpoilt(cell, seen) => {
                write!(f, "  {cell}  not alone on the GPU, is measured again: {seen}")
            }
            Self::ServerReady(after) => write!(f, "  ready after {:.1} s", after.as_secs_f64()),
            Self::TextsFound(probes, took) => write!(
                f,
                "  prompts calibrated ({}) in {:.1} s",
                counted((*probes).into(), "tokenizer call"),
                took.as_secs_f64()
            ),
            Self::TextsLeftOut(what, why) => write!(
                f,
                "  note  {what} can't be had from this server, and cells of them will fail: {why}"
            ),
            Self::TextOff(asked, reached) => write!(
                f,
                "  note  a text of {asked} tokens can't be made; the nearest has {reached}"
            ),
            Self::Questions(summary, _) | Self::CellMeasured(summary, _) => write!(f, "  {summary}"),
            Self::CellUnreadable(cell, error) => write!(f, "  {cell}  {error}"),
            Self::CellFailed(cell, reason) => write!(f, "  {cell}  failed: {reason}"),
            Self::ServerStopped {
                killed,
                took,
                memory_back,
                beside,
            } => {
                let how = if *killed { "killed" } else { "stopped" };
                write!(f, "  {how} in {:.1} s", took.as_secs_f64())?;
                match memory_back {
                    Some(after) => write!(f, ", GPU memory back after {:.2} s", after.as_secs_f64())?,
                    None => return Ok(()),
                }
                match beside {
                    &"" => Ok(()),
                    beside => write!(f, "; what is still in use is another process's: {beside}"),
                }
            }
            Self::LaneEnded(lane, end) => match end.outcome {
                LaneOutcome::Finished => write!(f, "lane {lane}  finished"),
                LaneOutcome::Interrupted => write!(f, "lane {lane}  interrupted"),
                LaneOutcome::Failed => {
                    let reason = end.reason.as_deref().unwrap_or("no reason given");
                    write!(f, "lane {lane}  failed at {}: {reason}", end.stage)
                }
            },
            Self::RunStopped(reason) => write!(f, "stopped: {reason}"),
            Self::EndNotJournalled(error) => {
                write!(f, "the end of the run could not be journalled: {error}")
            }
            Self::NoReport(run, error) => write!(
                f,
                "the report could not be written: {error}\n  hint: `benchd report {}` tries again",
                run.id()
            ),
            Self::NoRunJson(error) => write!(f, "run.json could not be written: {error}"),
            Self::Took(time) => write!(f, "took {}", short_duration(*time)),
        }
    }
}

/// What is going on now.
pub(super) enum Status<'a> {
    Client(&'a str),
    Provisioning(&'a str),
    Starting {
        lane: &'a LaneId,
        pid: i32,
    },
    ChatTemplate(&'a LaneId),
    Texts(&'a LaneId),
    LaneWarmup(&'a LaneId),
    /// Who is waited for, and for how long still.
    Strangers(&'a str, Duration),
    Quality(&'a LaneId, CellProgress),
    CacheReset(&'a CellPosition<'a>),
    Cell(&'a CellPosition<'a>, CellProgress, Duration),
    Stopping(&'a LaneId),
    Releasing(&'a LaneId),
}

/// A cell among the run's.
pub(super) struct CellPosition<'a> {
    pub(super) lane: &'a LaneId,
    /// Of the lane, 1 on, and lanes in all.
    pub(super) lane_of: (usize, usize),
    pub(super) cell: &'a str,
    /// Of the cell, 1 on, and the lane's cells in all.
    pub(super) cell_of: (usize, usize),
}

impl fmt::Display for CellPosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((lane, lanes), (cell, cells)) = (self.lane_of, self.cell_of);
        write!(
            f,
            "lane {lane} of {lanes}  {}  cell {cell} of {cells}  {}",
            self.lane, self.cell
        )
    }
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(what) => write!(f, "measuring the client  {what}"),
            Self::Provisioning(line) => write!(f, "  {line}"),
            Self::Starting { lane, pid } => write!(f, "lane {lane}  starting (pid {pid})"),
            Self::ChatTemplate(lane) => write!(f, "lane {lane}  measuring the chat template"),
            Self::Texts(lane) => write!(f, "lane {lane}  calibrating prompts"),
            Self::LaneWarmup(lane) => write!(f, "lane {lane}  warming up"),
            Self::Strangers(named, left) => {
                write!(f, "waiting for the GPU, {} more: {named}", short_duration(*left))
            }
            Self::Quality(lane, progress) => write!(f, "lane {lane}  questions  {}", counts(*progress)),
            Self::CacheReset(cell) => write!(f, "{cell}  resetting the cache"),
            Self::Cell(cell, progress, left) => {
                write!(f, "{cell}  {}  {}", counts(*progress), until(*left))
            }
            Self::Stopping(lane) => write!(f, "lane {lane}  stopping"),
            Self::Releasing(lane) => write!(f, "lane {lane}  waiting for the GPU memory"),
        }
    }
}

fn counts(progress: CellProgress) -> String {
    let CellProgress {
        done,
        total,
        failed,
        warming_up,
        ..
    } = progress;
    match failed {
        _ if warming_up => "warming up".to_owned(),
        0 => format!("{done} of {total}"),
        failed => format!("{done} of {total}, {failed} failed"),
    }
}

/// `about 2 h 05 m left, until 04:10`, by the machine's clock.
fn until(left: Duration) -> String {
    let shown = short_duration(left);
    match jiff::ZonedDateTime::now().checked_add(left) {
        Ok(end) => format!("about {shown} left, until {}", end.strftime("%H:%M")),
        Err(_) => format!("about {shown} left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_from_what_went_well() {
        let lane = LaneId {
            framework: "vllm".into(),
            model: "m".into(),
            round: 1,
        };
        let end = LaneEnd::failed("ready", "the server ended");
        let line = Line::LaneEnded(&lane, &end);
        let text = format!("lane {lane}  failed at ready: the server ended");
        assert_eq!((line.tone(), line.to_string()), (Tone::Bad, text));
        let again = Line::LaneStarted {
            lane: &lane,
            position: (2, 3),
            attempt: 2,
        };
        assert_eq!(again.to_string(), format!("lane {lane}  (2 of 3), attempt 2"));
        let cell = |failed| Line::CellMeasured("", failed).tone();
        assert_eq!((cell(false), cell(true)), (Tone::Good, Tone::Warn));
        let progress = CellProgress {
            stored: 9,
            done: 7,
            total: 8,
            failed: 1,
            warming_up: false,
        };
        assert_eq!(counts(progress), "7 of 8, 1 failed");
    }
}
