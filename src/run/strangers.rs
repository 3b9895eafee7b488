//! Strangers on the GPU: told, waited out, and kept apart from the server.

use std::time::{Duration, Instant};

use super::{
    display::Display,
    duration::short_duration,
    lines::{Line, Status},
};
use crate::check::gpu::name_processes;
use benchd_core::record::GpuProcess;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What systemd is told beyond the limit.
const MARGIN: Duration = Duration::from_secs(60);

/// Strangers that did not leave within the plan's limit.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} {} on the GPU{}\n  hint: end {}, then go on with --resume: what is measured stays; `host.stranger: {{ wait: 1h }}` \
     waits longer, `host.exclusive: false` does not mind",
    name_processes(.strangers),
    if .strangers.len() == 1 { "is" } else { "are" },
    if .waited.is_zero() { String::new() } else { format!(", and did not leave within {}", short_duration(*.waited)) },
    if .strangers.len() == 1 { "it" } else { "them" },
)]
pub(super) struct NotAlone {
    pub(super) strangers: Vec<GpuProcess>,
    waited: Duration,
}

/// How a wait for strangers to leave ended.
pub(super) enum Waited<T> {
    /// Nobody else is there.
    Alone,
    /// They stayed.
    Still(NotAlone),
    /// Whatever stops the wait from outside came first.
    Stopped(T),
}

/// Waits until `look` finds no stranger, for `limit` at the longest, and says so where there is anything to wait for.
/// `look` may fail with what ends the wait.
pub(super) async fn wait_alone<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Vec<GpuProcess>, T>,
    stop: impl Future<Output = T>,
    display: &Display,
) -> Waited<T> {
    let since = Instant::now();
    let mut said = false;
    let mut stop = std::pin::pin!(stop);
    loop {
        let strangers = match look().await {
            Ok(strangers) => strangers,
            Err(end) => return Waited::Stopped(end),
        };
        let waited = since.elapsed();
        if strangers.is_empty() {
            if said {
                display.say(&Line::AloneAgain(waited));
            }
            return Waited::Alone;
        }
        if waited >= limit {
            return Waited::Still(NotAlone {
                strangers,
                waited: limit,
            });
        }
        let named = name_processes(&strangers);
        if !said {
            display.say(&Line::WaitingForStrangers(&named, limit));
            // A start may have to wait as well.
            display.systemd().extend(limit + MARGIN);
            said = true;
        }
        display.status(&Status::Strangers(&named, limit.saturating_sub(waited)));
        let pause = tokio::time::sleep(LOOK.min(limit.saturating_sub(waited)));
        tokio::select! {
            biased;
            end = stop.as_mut() => return Waited::Stopped(end),
            () = display.watchdog().wait(LOOK, pause) => {}
        }
    }
}
