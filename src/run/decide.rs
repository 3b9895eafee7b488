//! The one decision of a run: what comes next. Pure; the tasks around it only carry events in and actions out.

use benchd_journal::{LaneOutcome, RunOutcome};

/// What the decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct RunView {
    /// Lanes in the order of the plan.
    pub(crate) lanes: Vec<LaneView>,
    /// Why the run must end early, if it must.
    pub(crate) halt: Option<Halt>,
}

/// One lane.
#[derive(Debug, Clone)]
pub(crate) struct LaneView {
    /// Cells that have no result that stands.
    pub(crate) open_cells: u32,
    /// Those of them that were measured, and must be again.
    pub(crate) spoilt_cells: u32,
    /// Attempts begun so far.
    pub(crate) attempts: u32,
    /// Attempts that failed (an interrupted one did not).
    pub(crate) failures: u32,
    /// How often a failed lane is tried again.
    pub(crate) retries: u32,
    /// How its last attempt ended.
    pub(crate) last: Option<LaneOutcome>,
    /// Whether any request of its finished cells failed.
    pub(crate) failed_requests: bool,
}

impl LaneView {
    fn is_over(&self) -> bool {
        match self.last {
            // Of an earlier benchd; a lane of this one does not finish with a cell that is spoilt.
            Some(LaneOutcome::Finished) => self.spoilt_cells == 0,
            // Failed at its release only: nothing is left to measure.
            Some(LaneOutcome::Failed) => self.open_cells == 0 || self.failures > self.retries,
            Some(LaneOutcome::Interrupted) | None => self.open_cells == 0,
        }
    }

    fn is_whole(&self) -> bool {
        self.open_cells == 0 && !self.failed_requests
    }
}

/// Why a run ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// A signal, by its number.
    Signal(i32),
    /// The GPU or a process is not as it must be before the next server.
    Unsafe(String),
    /// benchd can't store results any more.
    Disk(String),
    /// Strangers stay on the GPU.
    Busy(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run this lane.
    Lane {
        /// Position in [`RunView::lanes`].
        index: usize,
        attempt: u32,
    },
    /// End the run.
    End {
        /// How it is marked.
        outcome: RunOutcome,
        /// benchd's exit code.
        exit_code: u8,
        /// For people.
        reason: Option<String>,
    },
}

/// Exit code of a run that ended by itself with everything measured and no request failed.
pub(crate) const EXIT_OK: u8 = 0;
/// Exit code of a finished run in which lanes, cells or requests failed.
pub(crate) const EXIT_WITH_FAILURES: u8 = 1;
/// Exit code for a wrong plan or wrong arguments.
pub(crate) const EXIT_PLAN: u8 = 2;
/// Exit code for a machine that is not fit.
pub(crate) const EXIT_MACHINE: u8 = 3;
/// Exit code of a stop for safety.
pub(crate) const EXIT_UNSAFE: u8 = 4;

/// What comes next. A retry follows its lane at once: the machine is then as like the first attempt as it
/// can be.
pub(crate) fn next(view: &RunView) -> Next {
    match &view.halt {
        Some(Halt::Unsafe(reason)) => {
            return Next::End {
                outcome: RunOutcome::Unsafe,
                exit_code: EXIT_UNSAFE,
                reason: Some(reason.clone()),
            };
        }
        Some(Halt::Disk(reason) | Halt::Busy(reason)) => {
            return Next::End {
                outcome: RunOutcome::Aborted,
                exit_code: EXIT_MACHINE,
                reason: Some(reason.clone()),
            };
        }
        Some(Halt::Signal(signal)) => {
            return Next::End {
                outcome: RunOutcome::Interrupted,
                exit_code: signal_exit_code(*signal),
                reason: Some(format!("signal {signal}")),
            };
        }
        None => {}
    }
    if let Some(index) = view.lanes.iter().position(|lane| !lane.is_over()) {
        return Next::Lane {
            index,
            attempt: view.lanes[index].attempts + 1,
        };
    }
    let whole = view.lanes.iter().all(LaneView::is_whole);
    Next::End {
        outcome: RunOutcome::Finished,
        exit_code: if whole { EXIT_OK } else { EXIT_WITH_FAILURES },
        reason: None,
    }
}

/// The shell's convention: 128 + signal.
pub(crate) fn signal_exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(open_cells: u32, failures: u32, retries: u32, last: Option<LaneOutcome>) -> LaneView {
        LaneView {
            open_cells,
            spoilt_cells: 0,
            attempts: failures + u32::from(last == Some(LaneOutcome::Interrupted)),
            failures,
            retries,
            last,
            failed_requests: false,
        }
    }

    fn view(lanes: Vec<LaneView>) -> RunView {
        RunView { lanes, halt: None }
    }

    #[test]
    fn lanes_run_in_order() {
        let mut v = view(vec![lane(3, 0, 0, None), lane(3, 0, 0, None)]);
        assert_eq!(next(&v), Next::Lane { index: 0, attempt: 1 });
        v.lanes[0] = lane(0, 0, 0, Some(LaneOutcome::Finished));
        assert_eq!(next(&v), Next::Lane { index: 1, attempt: 1 });
    }

    #[test]
    fn a_failed_lane_is_retried_as_often_as_the_plan_says_and_then_left() {
        let mut v = view(vec![
            lane(2, 1, 1, Some(LaneOutcome::Failed)),
            lane(1, 0, 0, None),
        ]);
        assert_eq!(next(&v), Next::Lane { index: 0, attempt: 2 });
        v.lanes[0] = lane(2, 2, 1, Some(LaneOutcome::Failed));
        assert_eq!(next(&v), Next::Lane { index: 1, attempt: 1 });
    }

    #[test]
    fn a_lane_whose_failures_were_the_machines_is_begun_again_unless_all_is_measured() {
        let mut v = view(vec![lane(2, 0, 0, Some(LaneOutcome::Failed))]);
        v.lanes[0].attempts = 1;
        assert_eq!(next(&v), Next::Lane { index: 0, attempt: 2 });
        v.lanes[0].open_cells = 0;
        assert!(matches!(
            next(&v),
            Next::End {
                exit_code: EXIT_OK,
                ..
            }
        ));
    }

    #[test]
    fn a_finished_lane_is_begun_again_for_what_was_spoilt_in_it() {
        let mut v = view(vec![lane(1, 0, 0, Some(LaneOutcome::Finished))]);
        v.lanes[0].attempts = 1;
        assert!(matches!(next(&v), Next::End { .. }), "a narrowed run left it out");
        v.lanes[0].spoilt_cells = 1;
        assert_eq!(next(&v), Next::Lane { index: 0, attempt: 2 });
    }

    #[test]
    fn an_interrupted_lane_goes_on_without_counting_as_a_failure() {
        let v = view(vec![lane(2, 0, 0, Some(LaneOutcome::Interrupted))]);
        assert_eq!(next(&v), Next::Lane { index: 0, attempt: 2 });
    }

    #[test]
    fn exit_codes() {
        let whole = view(vec![lane(0, 0, 0, Some(LaneOutcome::Finished))]);
        assert!(matches!(
            next(&whole),
            Next::End {
                exit_code: EXIT_OK,
                ..
            }
        ));
        let mut failed = whole.clone();
        failed.lanes[0].failed_requests = true;
        assert!(matches!(
            next(&failed),
            Next::End {
                exit_code: EXIT_WITH_FAILURES,
                ..
            }
        ));
        let lost = view(vec![lane(1, 1, 0, Some(LaneOutcome::Failed))]);
        assert!(matches!(
            next(&lost),
            Next::End {
                exit_code: EXIT_WITH_FAILURES,
                ..
            }
        ));
        let mut halted = whole;
        halted.halt = Some(Halt::Signal(15));
        assert!(matches!(
            next(&halted),
            Next::End {
                exit_code: 143,
                outcome: RunOutcome::Interrupted,
                ..
            }
        ));
        halted.halt = Some(Halt::Busy("x".into()));
        assert!(matches!(
            next(&halted),
            Next::End {
                exit_code: EXIT_MACHINE,
                outcome: RunOutcome::Aborted,
                ..
            }
        ));
        halted.halt = Some(Halt::Unsafe("x".into()));
        assert!(matches!(
            next(&halted),
            Next::End {
                exit_code: EXIT_UNSAFE,
                ..
            }
        ));
    }

    proptest! {
        /// Whatever lanes do, a run ends: no lane is begun more often than its retries allow.
        #[test]
        fn every_run_ends(
            retries in proptest::collection::vec(0u32..3, 1..6),
            outcomes in proptest::collection::vec(any::<bool>(), 64),
        ) {
            let mut v = view(retries.iter().map(|r| lane(1, 0, *r, None)).collect());
            let budget: u32 = retries.iter().map(|r| r + 1).sum();
            let mut outcomes = outcomes.into_iter().cycle();
            let mut begun = 0;
            while let Next::Lane { index, attempt } = next(&v) {
                begun += 1;
                prop_assert!(begun <= budget);
                let l = &mut v.lanes[index];
                prop_assert_eq!(attempt, l.attempts + 1);
                l.attempts = attempt;
                if outcomes.next() == Some(true) {
                    l.last = Some(LaneOutcome::Finished);
                    l.open_cells = 0;
                } else {
                    l.last = Some(LaneOutcome::Failed);
                    l.failures += 1;
                }
            }
        }
    }
}
