//! Emptying a server's prefix cache before a cell, with proof where the framework gives one.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{attempt::LaneAttempt, probe::Completion};
use crate::server::{Control, ResetOutcome, reset_cache};
use benchd_core::record::{CacheReset, Flag, FlagKind, micros};
use benchd_load::client::Target;
use benchd_plan::{CachePolicy, Cell};

/// Empties the cache before the cell where the plan says so; `None` where it is kept.
pub(super) async fn reset(
    attempt: &LaneAttempt<'_>,
    control: &Control,
    target: Target,
    cell: &Cell,
    cell_attempt: u32,
    cancel: CancellationToken,
) -> Option<ResetOutcome> {
    if cell.cache == CachePolicy::Keep {
        return None;
    }
    let reset = attempt.adapter.cache_reset();
    if let CacheReset::NotPossible { why } = reset {
        return Some(ResetOutcome::NotPossible { why });
    }
    let now = jiff::Timestamp::now().as_microsecond();
    let salt = u64::try_from(now)
        .unwrap_or(0)
        .wrapping_add(u64::from(cell_attempt));
    let probe = Completion::reset_probe(
        attempt.adapter,
        target,
        salt % 1_000_000_000_000,
        attempt.model.reasoning_effort,
        attempt.request.timeout,
        cancel,
    );
    let began = Instant::now();
    let outcome = reset_cache(control, &reset, &probe).await;
    tracing::info!(lane = %attempt.lane.id, cell = cell.id, %outcome, took_us = micros(began.elapsed()), "cache reset");
    Some(outcome)
}

pub(super) fn reset_flag(outcome: Option<&ResetOutcome>) -> Option<Flag> {
    match outcome {
        None | Some(ResetOutcome::Proven) => None,
        Some(ResetOutcome::Unproven { why }) => Some(Flag::new(FlagKind::CacheResetUnproven, why)),
        Some(ResetOutcome::NotPossible { why } | ResetOutcome::Failed { why }) => {
            Some(Flag::new(FlagKind::CacheNotReset, why))
        }
    }
}
