//! Emptying a server's prefix cache before a cell, with proof where the framework gives one.

use std::time::Instant;

use super::{lane::LaneWork, opening::LaneCells, readiness::Completion};
use crate::server::{ResetOutcome, reset_cache};
use benchd_core::record::{CacheReset, Flag, FlagKind, micros};
use benchd_plan::{CachePolicy, Cell};

/// Empties the cache before the cell where the plan says so; `None` where it is kept.
pub(super) async fn reset(
    work: &LaneWork<'_, '_>,
    cells: &LaneCells,
    cell: &Cell,
    attempt: u32,
) -> Option<ResetOutcome> {
    if cell.cache == CachePolicy::Keep {
        return None;
    }
    let reset = work.adapter.cache_reset();
    if let CacheReset::NotPossible { why } = reset {
        return Some(ResetOutcome::NotPossible { why });
    }
    let now = jiff::Timestamp::now().as_microsecond();
    let salt = u64::try_from(now).unwrap_or(0).wrapping_add(u64::from(attempt));
    let probe = Completion::reset_probe(
        work.adapter,
        cells.target.clone(),
        salt % 1_000_000_000_000,
        work.model.reasoning_effort,
        work.shared.plan.request.timeout,
        work.shared.signals.clean().clone(),
    );
    let began = Instant::now();
    let outcome = reset_cache(&cells.control, &reset, &probe).await;
    tracing::info!(lane = %work.lane.id, cell = cell.id, %outcome, took_us = micros(began.elapsed()), "cache reset");
    Some(outcome)
}

pub(super) fn reset_flag(outcome: &Option<ResetOutcome>) -> Option<Flag> {
    match outcome {
        None | Some(ResetOutcome::Proven) => None,
        Some(ResetOutcome::Unproven { why }) => Some(Flag::new(FlagKind::CacheResetUnproven, why)),
        Some(ResetOutcome::NotPossible { why } | ResetOutcome::Failed { why }) => {
            Some(Flag::new(FlagKind::CacheNotReset, why))
        }
    }
}
