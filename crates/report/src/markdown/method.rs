//! How the figures come about, and where the raw data is.

use std::fmt::Write as _;

use super::{super::number::duration, Table, escape};
use benchd_analysis::RunSummary;
use benchd_core::stats;
use benchd_plan::Plan;

pub(super) fn section(summary: &RunSummary, plan: &Plan) -> String {
    let limit = duration(plan.request.timeout);
    let mut text = format!(
        "## Method and definitions

- **Times** are monotonic and count from the send: the moment before the first byte of the request is written, with the \
connection already open. An event's time is when its bytes have arrived, before they are decoded.
- **TTFT** is the time to the first token, reasoning or content. The times to the first event of any kind and to the first \
token of the answer itself stand beside it in `summary.json`.
- **Latency** ends with the request's last event. Under an open loop TTFT and latency count from the planned send.
- **TPOT** is (last token - first token) / (output tokens - 1), requests with fewer than two tokens left out.
- **Tokens** are the server's own count (`usage`); chunks are never counted as tokens.
- **Tokens/s a request** is a request's output tokens over its latency. **Output tokens/s** of a cell is the sum over \
successful requests over the duration of the pass (first send to last end), **requests/s** likewise; both are medians over \
the passes, with an interval from three passes on: a rate has as many samples as passes, not as requests.
- **Success** needs HTTP 200, no error event, a finish reason, and the usage and end marker that this server showed when it \
became ready. Everything else is a failure and stands in no figure, with one exception: a **time-out** counts as its limit \
({limit}) in latency, and in TTFT where no token came; percentiles that they reach are lower bounds, marked `≥`.
- **Full-length** latency is that of answers with the full output length; shorter ones are counted and flagged.
- **Steady state** is the time from the first to the last moment with at least {share:.0} % of the streams in flight. Its \
TTFT and latency are of requests sent in it, the first of each stream left out; its tokens are spread evenly between a \
request's first and last token. Reported where every pass has at least two waves of requests.
- **Percentiles** are linear interpolations on the raw values. A percentile is certain from the number of samples on at \
which, were it above everything seen, that many in a row below it would have had a chance of at most 1 % (p90: {p90}, p95: \
{p95}, p99: {p99}); below that it is an estimate, marked `~`.
- **Intervals** are 95 % bootstrap intervals (BCa, {replicates} resamples, seeded). They speak of the spread between \
requests of this run, not between nights. Over few passes they hold less than they say: the range of three values has \
the true median in it with a chance of 75 %, that of five with 94 %.
- **Comparisons** are ratios of medians, or, where at least {pairs} prompts are the same, the median over the prompts of \
the ratios of the same prompt; over several rounds the geometric mean over the rounds, resampled within them. A difference \
counts where the 95 % interval leaves 1 out and each side has at least {pairs} values; of twenty true equalities one will \
still look like a difference. Cliff's delta is the chance that a value is larger less the chance that it is smaller. \
Requests that run at the same time share a server, so their values are not wholly independent and intervals under load are \
narrower than they should be.
- **Gaps between chunks** (in `summary.json`) leave out events of one read and have a resolution of 0.1 %.
- **GPU** figures are of the samples between a cell's first send and last end. 1 MB = 1,000,000 bytes. Utilisation is the \
share of time in which any kernel ran, not how full the GPU was. Energy is the driver's counter where it has one, else mean \
power times time; J/token is over the output tokens of successful requests.
- **Characters** are Unicode scalar values of answer and reasoning together.

### Raw data

",
        share = stats::STEADY_SHARE * 100.0,
        pairs = benchd_analysis::COMPARED_VALUES,
        p90 = stats::samples_needed(90.0, stats::CERTAINTY),
        p95 = stats::samples_needed(95.0, stats::CERTAINTY),
        p99 = stats::samples_needed(99.0, stats::CERTAINTY),
        replicates = super::count(stats::REPLICATES as u64),
    );
    let mut files = Table::new(["file", "what"]);
    let mut file = |name: &str, what: &str| files.row([format!("`{name}`"), what.to_owned()]);
    file("plan.yaml", "the plan as it was run");
    file("journal.jsonl", "every event; which records count");
    file("prompts.jsonl", "every prompt that was sent");
    if !summary.prompt_lengths.is_empty() {
        file("calibration.json", "how the texts of exact length were found");
    }
    let written = summary
        .lanes
        .iter()
        .flat_map(|l| &l.cells)
        .any(|c| c.text.is_some());
    if written {
        file(
            "transcripts.md",
            "[the written prompts and the answers of each framework](transcripts.md)",
        );
    }
    file("summary.csv", "one row a cell");
    file("summary.json", "all figures of all cells");
    let mut seen: Vec<String> = Vec::new();
    for lane in &summary.lanes {
        let folder = format!("{}/{}", escape(&lane.lane.framework), escape(&lane.lane.model));
        if !seen.contains(&folder) {
            file(
                &format!("{folder}/requests.jsonl"),
                "every request: times, tokens, text",
            );
            file(&format!("{folder}/gpu.jsonl"), "GPU samples");
            file(&format!("{folder}/summary.json"), "the lane's figures");
            seen.push(folder);
        }
    }
    if let Some(info) = &summary.info {
        file(&escape(&info.logs), "logs of benchd and of the servers");
    }
    let _ = writeln!(text, "{files}");
    if !summary.notes.is_empty() {
        text.push_str("### Notes of the run\n\n");
        for note in &summary.notes {
            let _ = writeln!(text, "- {}", escape(note));
        }
    }
    text
}
