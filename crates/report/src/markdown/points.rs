//! The document's points of analysis (9.1): what to look at in each scenario, in figures of its cells.

use super::{
    super::{names::Names, number::*, reference::measured_by_most},
    Table, escape,
};
use benchd_analysis::{CellSummary, Distribution};
use benchd_plan::ScenarioKind;

/// What the document wants to know of a kind of scenario, in English and in its own words.
fn asked(kind: ScenarioKind) -> (&'static str, &'static str) {
    match kind {
        ScenarioKind::Single => (
            "the framework's overhead, basic efficiency",
            "프레임워크 오버헤드, 기본 추론 효율성",
        ),
        ScenarioKind::Concurrent => (
            "the scheduler's efficiency, what batching gives",
            "스케줄러 효율성, 배칭 전략의 실효성",
        ),
        ScenarioKind::LongContext => (
            "the efficiency of prefill, the management of memory",
            "Prefill 효율성, 메모리 관리 능력",
        ),
        ScenarioKind::PrefixCache => (
            "what reusing the KV cache really gives",
            "KV 캐시 재사용 전략의 실제 효과",
        ),
        ScenarioKind::Korean => (
            "the tokenizer's efficiency, throughput in another language than English, meaning per second",
            "토크나이저 효율성, 비영어 처리량, 실질 정보 처리 능력",
        ),
    }
}

/// The points of a scenario for one model, of the cells that all measured; empty without closed-loop cells to tell from.
pub(super) fn section(kind: ScenarioKind, cells: &[&CellSummary], names: &Names) -> String {
    let closed = cells.iter().copied().filter(|c| c.asked_requests_per_s.is_none());
    let closed = measured_by_most(closed, |c| &c.lane.framework, |c| &c.cell);
    let body = match kind {
        ScenarioKind::Single | ScenarioKind::LongContext => prompts(&closed, names),
        ScenarioKind::Concurrent => streams(&closed, names),
        // Their own tables, further down, are about nothing else.
        ScenarioKind::PrefixCache => {
            "In the table of first and later requests below: later over first, and the share of the prompt that was cached.\n"
                .to_owned()
        }
        ScenarioKind::Korean => "In the tables of Korean over English below: prompt tokens for the same meaning and tokens a \
                                 character; tokens per second; characters per second.\n"
            .to_owned(),
    };
    if closed.is_empty() || body.is_empty() {
        return String::new();
    }
    let (english, korean) = asked(kind);
    format!("Points of analysis of the document (9.1): {english} ({korean}).\n\n{body}\n")
}

/// The cells of each lane, in the order of the lanes.
fn by_lane<'a>(cells: &[&'a CellSummary]) -> Vec<Vec<&'a CellSummary>> {
    let mut lanes: Vec<Vec<&CellSummary>> = Vec::new();
    for cell in cells {
        match lanes.iter_mut().find(|of| of[0].lane == cell.lane) {
            Some(of) => of.push(cell),
            None => lanes.push(vec![cell]),
        }
    }
    lanes
}

fn median(d: Option<&Distribution>) -> Option<f64> {
    d.map(|d| d.p50)
}

/// What a prompt's length costs, at the fewest streams.
fn prompts(cells: &[&CellSummary], names: &Names) -> String {
    let mut table = Table::new([
        "framework",
        ">streams",
        ">prompt tokens",
        ">TTFT, shortest (ms)",
        ">TTFT, longest (ms)",
        ">overhead (ms)",
        ">prefill per 1,000 tokens (ms)",
        ">prompt tokens/s, longest",
        ">TPOT, shortest (ms)",
        ">TPOT, longest (ms)",
        ">memory growth (MB)",
    ]);
    for lane in by_lane(cells) {
        let fewest = lane.iter().map(|c| c.concurrency).min().unwrap_or(0);
        let of = lane
            .iter()
            .filter(|c| c.concurrency == fewest && c.asked_prompt_tokens.is_some());
        let (Some(short), Some(long)) = (
            of.clone().min_by_key(|c| c.asked_prompt_tokens),
            of.max_by_key(|c| c.asked_prompt_tokens),
        ) else {
            continue;
        };
        let tokens = |c: &CellSummary| f64::from(c.asked_prompt_tokens.unwrap_or(0));
        let (ttft_short, ttft_long) = (median(short.ttft_ms.as_ref()), median(long.ttft_ms.as_ref()));
        let further = tokens(long) - tokens(short);
        let slope = ttft_long
            .zip(ttft_short)
            .filter(|_| further > 0.0)
            .map(|(long, short)| (long - short) / further * 1e3);
        let prefill = ttft_long
            .zip(long.prompt_tokens.as_ref())
            .filter(|(ms, _)| *ms > 0.0)
            .map(|(ms, prompt)| prompt.median / ms * 1e3);
        let peak = |c: &CellSummary| Some(c.gpu.as_ref()?.memory_peak_bytes? as f64 / 1e6);
        table.row([
            escape(&names.lane(&short.lane)),
            count(fewest.into()),
            if further > 0.0 {
                format!("{} to {}", grouped(tokens(short)), grouped(tokens(long)))
            } else {
                grouped(tokens(short))
            },
            optional(ttft_short),
            optional(ttft_long),
            optional(
                slope
                    .zip(ttft_short)
                    .map(|(per_1000, ttft)| ttft - per_1000 * tokens(short) / 1e3),
            ),
            optional(slope),
            optional(prefill),
            optional(median(short.tpot_ms.as_ref())),
            optional(median(long.tpot_ms.as_ref())),
            optional(
                peak(long)
                    .zip(peak(short))
                    .filter(|_| further > 0.0)
                    .map(|(l, s)| l - s),
            ),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "{table}\nMedians. Prefill per 1,000 tokens is what they add to the time to first token; what the straight line through both \
         lengths leaves for a prompt of none is overhead (below 0 where there is no straight line). Prompt tokens/s is the \
         whole prompt over its time to first token, overhead included. Memory growth is from the shortest prompt to the \
         longest.\n"
    )
}

/// What further streams give and cost.
fn streams(cells: &[&CellSummary], names: &Names) -> String {
    let mut table = Table::new([
        "framework",
        ">prompt tokens",
        ">streams",
        ">tokens/s, fewest",
        ">tokens/s, most",
        ">times as many",
        ">share of ideal",
        ">TTFT, times as long",
        ">TPOT, times as long",
        ">failed, most",
    ]);
    for lane in by_lane(cells) {
        let mut lengths: Vec<Option<u32>> = lane.iter().map(|c| c.asked_prompt_tokens).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths {
            let of = lane.iter().filter(|c| c.asked_prompt_tokens == length);
            let (Some(fewest), Some(most)) = (
                of.clone().min_by_key(|c| c.concurrency),
                of.max_by_key(|c| c.concurrency),
            ) else {
                continue;
            };
            if fewest.concurrency == most.concurrency {
                continue;
            }
            let rate = |c: &CellSummary| c.output_tokens_per_s.as_ref().map(|r| r.median);
            let times = |most: Option<f64>, fewest: Option<f64>| {
                most.zip(fewest).filter(|(_, f)| *f > 0.0).map(|(m, f)| m / f)
            };
            let gain = times(rate(most), rate(fewest));
            let ideal = f64::from(most.concurrency) / f64::from(fewest.concurrency.max(1));
            table.row([
                escape(&names.lane(&most.lane)),
                length.map_or(NONE.to_owned(), |n| count(n.into())),
                format!(
                    "{} to {}",
                    count(fewest.concurrency.into()),
                    count(most.concurrency.into())
                ),
                optional(rate(fewest)),
                optional(rate(most)),
                optional(gain),
                gain.map_or(NONE.to_owned(), |g| percent(g / ideal)),
                optional(times(
                    median(most.ttft_ms.as_ref()),
                    median(fewest.ttft_ms.as_ref()),
                )),
                optional(times(
                    median(most.tpot_ms.as_ref()),
                    median(fewest.tpot_ms.as_ref()),
                )),
                format!("{} of {}", count(most.failed), count(most.requests)),
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "{table}\nMedians of the whole cells. Ideal is as many times the tokens per second as there are times the streams. Where \
         time per token grows, batching has its price; where time to first token grows, requests wait.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_analysis::testing::*;

    /// A lane's cells: `(streams, prompt tokens, TTFT, latency of 11 tokens)`, in milliseconds.
    fn lane(of: &[(u32, u32, u64, u64)], kind: ScenarioKind) -> Vec<CellSummary> {
        let cells: Vec<_> = of
            .iter()
            .map(|(streams, tokens, ..)| exact(&format!("s/c{streams}/in{tokens}"), kind, *streams, *tokens))
            .collect();
        let lane = lane_id("vllm", "llama");
        let mut run = Builder::new(vec![(lane.clone(), cells.clone())]);
        run.ready(&lane);
        for (cell, (streams, tokens, ttft, latency)) in cells.iter().zip(of) {
            let did = Did {
                prompt_tokens: u64::from(*tokens),
                ..Did::ok(0, *ttft, *latency)
            };
            run.measured(&lane, &cell.id, &[(*latency, vec![did; *streams as usize])]);
        }
        run.finish_lane(&lane);
        run.finish();
        run.summary().expect("a summary").lanes.remove(0).cells
    }

    fn row(text: &str) -> Vec<String> {
        let row = text
            .lines()
            .find(|l| l.starts_with("| vLLM"))
            .unwrap_or_else(|| panic!("{text}"));
        row.trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect()
    }

    #[test]
    fn a_longer_prompt_costs_what_it_adds() {
        let cells = lane(
            &[(1, 1000, 110, 1110), (1, 3000, 310, 1510)],
            ScenarioKind::LongContext,
        );
        let text = section(
            ScenarioKind::LongContext,
            &cells.iter().collect::<Vec<_>>(),
            &Names::default(),
        );
        assert!(text.contains("Prefill 효율성"), "{text}");
        let row = row(&text);
        // 200 ms more for 2,000 tokens more; 110 ms less 100 ms for the first 1,000.
        assert_eq!(
            row[..7],
            ["vLLM", "1", "1,000 to 3,000", "110", "310", "10.0", "100"]
        );
        // 3,000 tokens in 310 ms.
        assert_eq!(row[7], number(3000.0 / 0.31));
        assert_eq!(row[8..10], ["100", "120"]);
    }

    #[test]
    fn streams_that_share_a_server_are_set_against_the_ideal() {
        let cells = lane(
            &[(1, 512, 100, 1100), (4, 512, 200, 2200)],
            ScenarioKind::Concurrent,
        );
        let text = section(
            ScenarioKind::Concurrent,
            &cells.iter().collect::<Vec<_>>(),
            &Names::default(),
        );
        let row = row(&text);
        // 11 tokens in 1.1 s; 44 in 2.2 s.
        assert_eq!(
            row[1..],
            [
                "512", "1 to 4", "10.0", "20.0", "2.00", "50.0 %", "2.00", "2.00", "0 of 4"
            ]
        );
    }

    #[test]
    fn one_level_or_no_cell_has_no_points() {
        let cells = lane(&[(4, 512, 200, 2200)], ScenarioKind::Concurrent);
        assert_eq!(
            section(
                ScenarioKind::Concurrent,
                &cells.iter().collect::<Vec<_>>(),
                &Names::default()
            ),
            ""
        );
        assert_eq!(section(ScenarioKind::Korean, &[], &Names::default()), "");
    }
}
