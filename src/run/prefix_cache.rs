//! Emptying a server's prefix cache before a cell, with proof where the framework gives one.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{attempt::LaneAttempt, probe::Completion};
use crate::server::{Control, reset_cache};
use benchd_core::record::{CacheReset, Flag, FlagKind, ResetOutcome, micros};
use benchd_load::client::Target;
use benchd_plan::{CachePolicy, Cell};

/// Empties the cache before the cell where the plan says so.
pub(super) async fn reset(
    attempt: &LaneAttempt<'_>,
    control: &Control,
    target: Target,
    cell: &Cell,
    cell_attempt: u32,
    cancel: CancellationToken,
) -> ResetOutcome {
    if cell.cache == CachePolicy::Keep {
        return ResetOutcome::Kept;
    }
    let reset = attempt.adapter.cache_reset();
    if let CacheReset::NotPossible { why } = reset {
        return ResetOutcome::NotPossible { why };
    }
    let now = jiff::Timestamp::now().as_microsecond();
    let salt = u64::try_from(now)
        .unwrap_or(0)
        .wrapping_add(u64::from(cell_attempt));
    let probe = Completion::reset_probe(attempt, target, salt % 1_000_000_000_000, cancel);
    let began = Instant::now();
    let outcome = reset_cache(control, &reset, &probe).await;
    tracing::info!(lane = %attempt.lane.id, cell = cell.id, %outcome, took_us = micros(began.elapsed()), "cache reset");
    outcome
}

pub(super) fn reset_flag(outcome: &ResetOutcome) -> Option<Flag> {
    match outcome {
        ResetOutcome::Kept | ResetOutcome::Proven => None,
        ResetOutcome::Unproven { why } => Some(Flag::new(FlagKind::CacheResetUnproven, why)),
        ResetOutcome::NotPossible { why } | ResetOutcome::Failed { why } => {
            Some(Flag::new(FlagKind::CacheNotReset, why))
        }
    }
}
