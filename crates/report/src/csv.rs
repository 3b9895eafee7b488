//! `summary.csv`: one row a cell. The first columns are fixed, others may be added after them.

use benchd_analysis::{CellSummary, Distribution, RunSummary, Study, machine_name};
use benchd_core::{
    record::{Format, LaneId},
    stats::Interval,
};

/// The columns that others rely on, in their order.
pub const CSV_HEADER: &str = "framework,model,scenario,cell,requests,failed,ttft_ms_p50,ttft_ms_p95,ttft_ms_p99,\
latency_ms_p50,latency_ms_p95,latency_ms_p99,tpot_ms_p50,output_tokens_per_s,requests_per_s,gpu_memory_mb_peak,\
gpu_memory_mb_mean,gpu_util_pct_mean,flags";

type Column = (&'static str, fn(&CellSummary) -> Option<f64>);

fn d(distribution: &Option<Distribution>, f: fn(&Distribution) -> f64) -> Option<f64> {
    distribution.as_ref().map(f)
}

fn interval(interval: Option<&Interval>, f: fn(&Interval) -> f64) -> Option<f64> {
    interval.map(f)
}

/// The fixed columns from `requests` to `gpu_util_pct_mean`.
#[rustfmt::skip]
const FIGURES: [Column; 14] = [
    ("requests", |c| Some(c.requests as f64)),
    ("failed", |c| Some(c.failed as f64)),
    ("ttft_ms_p50", |c| d(&c.ttft_ms, |d| d.p50)),
    ("ttft_ms_p95", |c| d(&c.ttft_ms, |d| d.p95)),
    ("ttft_ms_p99", |c| d(&c.ttft_ms, |d| d.p99)),
    ("latency_ms_p50", |c| d(&c.latency_ms, |d| d.p50)),
    ("latency_ms_p95", |c| d(&c.latency_ms, |d| d.p95)),
    ("latency_ms_p99", |c| d(&c.latency_ms, |d| d.p99)),
    ("tpot_ms_p50", |c| d(&c.tpot_ms, |d| d.p50)),
    ("output_tokens_per_s", |c| c.output_tokens_per_s.as_ref().map(|r| r.median)),
    ("requests_per_s", |c| c.requests_per_s.as_ref().map(|r| r.median)),
    ("gpu_memory_mb_peak", |c| Some(c.gpu.as_ref()?.memory_peak_bytes? as f64 / 1e6)),
    ("gpu_memory_mb_mean", |c| Some(c.gpu.as_ref()?.memory_mean_bytes? / 1e6)),
    ("gpu_util_pct_mean", |c| c.gpu.as_ref()?.util_mean_pct),
];

/// Columns after the fixed ones.
#[rustfmt::skip]
const MORE: [Column; 65] = [
    ("concurrency", |c| Some(f64::from(c.concurrency))),
    ("passes", |c| Some(c.passes_s.len() as f64)),
    ("passes_s_total", |c| Some(c.passes_s.iter().sum())),
    ("asked_prompt_tokens", |c| c.asked_prompt_tokens.map(f64::from)),
    ("asked_output_tokens", |c| Some(f64::from(c.asked_output_tokens))),
    ("short_outputs", |c| Some(c.short_outputs as f64)),
    ("timeouts", |c| Some(c.failures.get("timeout").copied().unwrap_or(0) as f64)),
    ("ttft_ms_p50_low", |c| interval(c.ttft_ms.as_ref()?.p50_interval.as_ref(), |i| i.low)),
    ("ttft_ms_p50_high", |c| interval(c.ttft_ms.as_ref()?.p50_interval.as_ref(), |i| i.high)),
    ("ttft_ms_mean", |c| d(&c.ttft_ms, |d| d.mean)),
    ("ttft_ms_min", |c| d(&c.ttft_ms, |d| d.min)),
    ("ttft_ms_max", |c| d(&c.ttft_ms, |d| d.max)),
    ("first_chunk_ms_p50", |c| d(&c.first_chunk_ms, |d| d.p50)),
    ("first_content_ms_p50", |c| d(&c.first_content_ms, |d| d.p50)),
    ("latency_ms_p50_low", |c| interval(c.latency_ms.as_ref()?.p50_interval.as_ref(), |i| i.low)),
    ("latency_ms_p50_high", |c| interval(c.latency_ms.as_ref()?.p50_interval.as_ref(), |i| i.high)),
    ("latency_ms_mean", |c| d(&c.latency_ms, |d| d.mean)),
    ("latency_full_ms_p50", |c| d(&c.latency_full_ms, |d| d.p50)),
    ("latency_full_ms_p95", |c| d(&c.latency_full_ms, |d| d.p95)),
    ("latency_full_ms_p99", |c| d(&c.latency_full_ms, |d| d.p99)),
    ("tpot_ms_p95", |c| d(&c.tpot_ms, |d| d.p95)),
    ("tpot_ms_p99", |c| d(&c.tpot_ms, |d| d.p99)),
    ("chunk_gap_ms_p50", |c| c.chunk_gap_ms.as_ref().map(|g| g.p50)),
    ("chunk_gap_ms_p99", |c| c.chunk_gap_ms.as_ref().map(|g| g.p99)),
    ("chunks_coalesced", |c| c.chunk_gap_ms.as_ref().map(|g| g.coalesced as f64)),
    ("connect_ms_p50", |c| d(&c.connect_ms, |d| d.p50)),
    ("request_tokens_per_s_p50", |c| d(&c.request_tokens_per_s, |d| d.p50)),
    ("output_tokens_per_s_low", |c| interval(c.output_tokens_per_s.as_ref()?.interval.as_ref(), |i| i.low)),
    ("output_tokens_per_s_high", |c| interval(c.output_tokens_per_s.as_ref()?.interval.as_ref(), |i| i.high)),
    ("prompt_tokens_total", |c| c.prompt_tokens.as_ref().map(|t| t.total as f64)),
    ("prompt_tokens_p50", |c| c.prompt_tokens.as_ref().map(|t| t.median)),
    ("output_tokens_total", |c| c.output_tokens.as_ref().map(|t| t.total as f64)),
    ("output_tokens_p50", |c| c.output_tokens.as_ref().map(|t| t.median)),
    ("cached_tokens_total", |c| c.cached_tokens.as_ref().map(|t| t.total as f64)),
    ("steady_share", |c| c.steady.as_ref().map(|s| s.share)),
    ("steady_output_tokens_per_s", |c| c.steady.as_ref()?.output_tokens_per_s.as_ref().map(|r| r.median)),
    ("steady_ttft_ms_p50", |c| d(&c.steady.as_ref()?.ttft_ms, |d| d.p50)),
    ("steady_latency_ms_p50", |c| d(&c.steady.as_ref()?.latency_ms, |d| d.p50)),
    ("goodput_requests_per_s", |c| c.goodput.as_ref()?.requests_per_s.as_ref().map(|r| r.median)),
    ("goodput_share", |c| c.goodput.as_ref().map(|g| g.share)),
    ("gpu_power_w_mean", |c| c.gpu.as_ref()?.power_mean_w),
    ("gpu_energy_j", |c| c.gpu.as_ref()?.energy_j),
    ("gpu_energy_j_per_output_token", |c| c.gpu.as_ref()?.energy_j_per_output_token),
    ("gpu_sm_clock_mhz_mean", |c| c.gpu.as_ref()?.sm_clock_mean_mhz),
    ("gpu_throttled_share", |c| c.gpu.as_ref().map(|g| g.throttled_share)),
    ("cache_first_ttft_ms_p50", |c| d(&c.prefix_cache.as_ref()?.first_ttft_ms, |d| d.p50)),
    ("cache_later_ttft_ms_p50", |c| d(&c.prefix_cache.as_ref()?.later_ttft_ms, |d| d.p50)),
    ("cache_later_over_first", |c| d(&c.prefix_cache.as_ref()?.later_over_first, |d| d.p50)),
    ("cache_later_cached_share", |c| c.prefix_cache.as_ref()?.later_cached_share),
    ("output_tokens_per_char", |c| c.text.as_ref()?.output_tokens_per_char),
    ("output_tokens_per_byte", |c| c.text.as_ref()?.output_tokens_per_byte),
    ("prompt_tokens_per_char", |c| c.text.as_ref()?.prompt_tokens_per_char),
    ("chars_per_s_p50", |c| d(&c.text.as_ref()?.chars_per_s, |d| d.p50)),
    ("bytes_per_s_p50", |c| d(&c.text.as_ref()?.bytes_per_s, |d| d.p50)),
    ("cache_first_cached_share", |c| c.prefix_cache.as_ref()?.first_cached_share),
    ("cache_pass_s_p50", |c| d(&c.prefix_cache.as_ref()?.total_s, |d| d.p50)),
    ("asked_requests_per_s", |c| c.asked_requests_per_s),
    ("sent_requests_per_s", |c| c.sent_requests_per_s.as_ref().map(|r| r.median)),
    ("queued_ms_p50", |c| d(&c.queued_ms, |d| d.p50)),
    ("queued_ms_max", |c| d(&c.queued_ms, |d| d.max)),
    ("server_prompt_tokens", |c| c.server_says.prompt_tokens),
    ("server_output_tokens", |c| c.server_says.output_tokens),
    ("server_prompt_ms_p50", |c| d(&c.server_says.prompt_ms, |d| d.p50)),
    ("client_lag_us_p99", |c| Some(c.client.p99_us as f64)),
    ("gpu_energy_certain", |c| c.gpu.as_ref()?.energy_certain.map(|certain| f64::from(u8::from(certain)))),
];

/// The whole file of one run. Values that are not known are empty; flags are joined by `;`.
pub fn summary_csv(summary: &RunSummary) -> String {
    let mut text = header();
    rows(&mut text, summary, &machine_name(summary));
    text
}

/// The same of several runs, with the machines' names as the study tells them apart.
pub fn study_csv(study: &Study) -> String {
    let mut text = header();
    for machine in &study.machines {
        for run in &machine.runs {
            rows(&mut text, run, &machine.name);
        }
    }
    text
}

fn header() -> String {
    let mut text = CSV_HEADER.to_owned();
    for (name, _) in MORE {
        text.push(',');
        text.push_str(name);
    }
    text.push_str(",round,started_unix_us,run_id,machine,version,weights,kv_cache,random_weights\n");
    text
}

fn rows(text: &mut String, summary: &RunSummary, machine: &str) {
    for (lane, cell) in summary
        .lanes
        .iter()
        .flat_map(|l| l.cells.iter().map(move |cell| (l, cell)))
    {
        let LaneId {
            framework,
            model,
            round,
        } = &cell.lane;
        let mut row: Vec<String> = [framework, model, &cell.scenario, &cell.cell]
            .map(|t| quoted(t))
            .into();
        row.extend(FIGURES.iter().map(|(_, get)| value(get(cell))));
        let flags: Vec<_> = cell.flags.iter().map(|f| f.kind.as_str()).collect();
        row.push(flags.join(";"));
        row.extend(MORE.iter().map(|(_, get)| value(get(cell))));
        row.push(round.to_string());
        row.push(cell.started_unix_us.to_string());
        row.push(quoted(&summary.run_id));
        row.push(quoted(machine));
        row.push(quoted(lane.version.as_deref().unwrap_or_default()));
        for format in [&lane.precision.weights, &lane.precision.kv_cache] {
            row.push(quoted(format.value().map_or("", Format::as_str)));
        }
        row.push(
            lane.precision
                .random_weights
                .value()
                .map_or(String::new(), bool::to_string),
        );
        text.push_str(&row.join(","));
        text.push('\n');
    }
}

/// Six decimals, without trailing zeros; empty where there is no value.
fn value(value: Option<f64>) -> String {
    let Some(value) = value.filter(|v| v.is_finite()) else {
        return String::new();
    };
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_columns_are_in_their_order() {
        let names: Vec<&str> = CSV_HEADER.split(',').collect();
        assert_eq!(names[..4], ["framework", "model", "scenario", "cell"]);
        assert_eq!(names[4..18], FIGURES.map(|(name, _)| name));
        assert_eq!(names[18..], ["flags"]);
    }

    #[test]
    fn values_are_plain_numbers() {
        assert_eq!(
            (
                value(Some(1234.5)).as_str(),
                value(Some(10.0)).as_str(),
                value(Some(0.0)).as_str()
            ),
            ("1234.5", "10", "0")
        );
        assert_eq!((value(None).as_str(), value(Some(f64::NAN)).as_str()), ("", ""));
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
