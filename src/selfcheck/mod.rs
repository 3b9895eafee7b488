//! The client against the simulated server on this machine: how far its times are from the truth, and how many
//! events a second it sustains. Method and definitions stand in `docs/selfcheck.md`.
//!
//! ```text
//! server   a child process: `benchd sim`, each event stamped by CLOCK_MONOTONIC
//! drive    the load engine against it, exactly as in a run                        the parts with I/O
//! memory   this process's resident memory
//! ───────
//! setting  how many streams, how fast, how long
//! judge    answers and stamps -> errors                                            pure
//! rate     which event rate to try next
//! table    what people read
//! ```

mod drive;
mod judge;
mod memory;
mod rate;
mod server;
mod setting;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use benchd_core::record::unix_us;
use benchd_journal::{ClientCalibration, ClientPoint, RateLimit};
use benchd_load::{LoadEngine, LoadError, LoadOptions};

use drive::Driven;
use rate::{Search, Verdict};
use setting::Setting;

pub(crate) use rate::{READ_LAG_BOUND_US, THREAD_SHARE_BOUND};
pub(crate) use table::{summary_line, table};

pub(crate) const STREAMS: [u32; 7] = [1, 8, 16, 32, 64, 256, 1_000];
pub(crate) const QUICK_STREAMS: [u32; 4] = [1, 16, 64, 256];
pub(crate) const MAX_STREAMS: u32 = 20_000;

#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The program whose `sim` is the server: benchd itself.
    pub(crate) program: PathBuf,
    /// Numbers of streams, each from 1 to [`MAX_STREAMS`].
    pub(crate) streams: Vec<u32>,
    /// About how long each number of streams is measured.
    pub(crate) time_a_point: Duration,
    /// Whether all streams get their tokens at about the same moment, as from one step of a batch, instead of each
    /// at its own.
    pub(crate) burst: bool,
    /// How long each event rate is tried; `None` leaves the search out.
    pub(crate) time_a_rate: Option<Duration>,
    /// Limit of the search for the largest rate.
    pub(crate) rate_budget: Duration,
}

impl Options {
    /// A whole self-check: about 40 s.
    pub(crate) fn whole(program: PathBuf) -> Self {
        Self {
            program,
            streams: STREAMS.to_vec(),
            time_a_point: Duration::from_secs(3),
            burst: false,
            time_a_rate: Some(Duration::from_millis(800)),
            rate_budget: Duration::from_secs(15),
        }
    }

    /// A quick one: a few seconds.
    pub(crate) fn quick(program: PathBuf) -> Self {
        Self {
            streams: QUICK_STREAMS.to_vec(),
            time_a_point: Duration::from_millis(400),
            time_a_rate: Some(Duration::from_millis(200)),
            rate_budget: Duration::from_secs(2),
            ..Self::whole(program)
        }
    }

    /// The short one of a run whose widest cell has so many streams.
    pub(crate) fn of_run(program: PathBuf, most_streams: u32) -> Self {
        let mut streams = vec![1, 16, most_streams.clamp(1, QUICK_STREAMS[3])];
        streams.sort_unstable();
        streams.dedup();
        Self {
            streams,
            ..Self::quick(program)
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfcheckError {
    #[error("{0} streams: a self-check has 1 to {MAX_STREAMS}")]
    Streams(u32),
    #[error("the simulated server can't be started: {0}")]
    Start(std::io::Error),
    #[error("the simulated server did not say where it listens, but {0:?}\n  hint: `benchd sim` shows why")]
    NoAddress(String),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("request {index} of {streams} streams failed: {what}")]
    Request { index: u32, streams: u32, what: String },
    #[error("request {index} brought {came} tokens and {stamps} stamps, the simulated server sent {sent}")]
    Count {
        index: u32,
        /// Token-bearing events that came.
        came: usize,
        /// Stamps among them.
        stamps: usize,
        /// Tokens that were asked for.
        sent: u32,
    },
    #[error("nothing was measured")]
    Empty,
}

/// Measures the client. `told` hears what is being measured, for a display.
///
/// # Errors
/// See [`SelfcheckError`]. The server's process is ended in any case.
pub(crate) async fn measure(
    options: &Options,
    told: &dyn Fn(&str),
) -> Result<ClientCalibration, SelfcheckError> {
    if let Some(wrong) = options.streams.iter().find(|n| !(1..=MAX_STREAMS).contains(*n)) {
        return Err(SelfcheckError::Streams(*wrong));
    }
    let engine = LoadEngine::start(LoadOptions {
        keep_stamps: true,
        ..LoadOptions::default()
    })?;
    let mut found = ClientCalibration {
        measured_unix_us: unix_us(),
        ..ClientCalibration::default()
    };
    let mut streams = options.streams.clone();
    streams.sort_unstable();
    streams.dedup();
    for streams in streams {
        told(&format!("{streams} streams"));
        let setting = Setting::of_point(streams, options.time_a_point, options.burst);
        found.points.push(point(&engine, options, setting).await?);
        let peak = memory::peak_bytes();
        found.peak_rss_bytes = found.peak_rss_bytes.max(peak);
    }
    if let Some(time) = options.time_a_rate {
        search_rate(&engine, options, time, &mut found, told).await?;
    }
    Ok(found)
}

async fn point(
    engine: &LoadEngine,
    options: &Options,
    setting: Setting,
) -> Result<ClientPoint, SelfcheckError> {
    let Driven {
        judged,
        report,
        grown_bytes,
    } = drive::drive(engine, &options.program, setting).await?;
    let mut point = judged.point(setting.streams)?;
    point.events = report.lag.events;
    point.tokens_per_s = setting.offered_per_s();
    point.cpu_us_per_event = report.lag.cpu_us as f64 / report.lag.events.max(1) as f64;
    point.read_lag_us_p99 = report.reads.p99_us as f64;
    point.rss_grown_bytes = grown_bytes;
    Ok(point)
}

async fn search_rate(
    engine: &LoadEngine,
    options: &Options,
    time: Duration,
    found: &mut ClientCalibration,
    told: &dyn Fn(&str),
) -> Result<(), SelfcheckError> {
    let began = Instant::now();
    let mut search = Search::default();
    while let Some(offered) = search.next() {
        if began.elapsed() + time > options.rate_budget {
            search.out_of_time();
            break;
        }
        told(&format!("{offered:.0} events/s"));
        let setting = Setting::of_rate(offered, time);
        let driven = drive::drive(engine, &options.program, setting).await?;
        let rate = rate::judge(setting, &driven.judged, &driven.report)?;
        search.tried(offered, Verdict::of(&rate));
        found.rates.push(rate);
    }
    found.max_events_per_s = found
        .rates
        .iter()
        .filter(|rate| rate.sustained)
        .map(|rate| rate.events_per_s)
        .max_by(f64::total_cmp);
    found.rate_limit = Some(search.limit().unwrap_or(RateLimit::Time));
    Ok(())
}
