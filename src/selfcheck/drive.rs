//! The load engine against a server of its own, as in a run.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{SelfcheckError, judge::Judged, memory, server::Server, setting::Setting};
use benchd_core::record::{EndMarker, StreamShape};
use benchd_load::client::{Answer, Target};
use benchd_load::{Batch, BatchReport, LoadEngine};
use benchd_plan::Arrival;

/// Limit of a request beyond what it should take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens of the request before the first one that counts: it brings up what the first one otherwise would (pages,
/// the kernel's stamping of arrivals).
const WARM_UP_TOKENS: u32 = 2;

pub(super) struct Driven {
    pub(super) judged: Judged,
    pub(super) report: BatchReport,
    /// By how much resident memory grew at most, bytes; 0 where that can't be read.
    pub(super) grown_bytes: u64,
}

/// Starts a server, sends what `setting` says, ends the server, and judges.
pub(super) async fn drive(
    engine: &LoadEngine,
    program: &Path,
    setting: Setting,
) -> Result<Driven, SelfcheckError> {
    let server = Server::start(program, setting).await?;
    let warm_up = Setting {
        streams: 1,
        waves: 1,
        tokens: WARM_UP_TOKENS,
        ..setting
    };
    batch(engine, &server, warm_up).await?;
    memory::forget_peak();
    let before = memory::resident_bytes();
    let (answers, report) = batch(engine, &server, setting).await?;
    let peak = memory::peak_bytes();
    server.stop().await;
    Ok(Driven {
        judged: Judged::of(&answers, setting)?,
        report,
        grown_bytes: peak
            .zip(before)
            .map_or(0, |(peak, before)| peak.saturating_sub(before)),
    })
}

async fn batch(
    engine: &LoadEngine,
    server: &Server,
    setting: Setting,
) -> Result<(Vec<Answer>, BatchReport), SelfcheckError> {
    let body = serde_json::json!({
        "model": "sim-model",
        "messages": [{"role": "user", "content": "self-check"}],
        "max_tokens": setting.tokens,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let body = Bytes::from(body.to_string());
    let (out, mut answers) = mpsc::unbounded_channel();
    let mut handle = engine.run(
        Batch {
            target: Target::new(server.addr, "/v1/chat/completions"),
            bodies: vec![body; setting.requests() as usize],
            concurrency: setting.streams,
            arrival: Arrival::Closed,
            seed: 0,
            timeout: setting.ttft + setting.gap * setting.tokens + PATIENCE,
            shape: StreamShape {
                usage: true,
                end: EndMarker::Done,
            },
            reasoning_fields: &[],
        },
        out,
    )?;
    let report = handle.wait().await?;
    Ok((std::iter::from_fn(|| answers.try_recv().ok()).collect(), report))
}
