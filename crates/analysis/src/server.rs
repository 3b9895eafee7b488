//! What the server itself counted and timed, beside benchd's own figures, and whether the two agree.

use std::collections::BTreeMap;

use super::{CheckedFigure, CrossCheck, Distribution, ServerSays, distribution::Mean};
use benchd_core::record::RequestRecord;
use benchd_frameworks::server_figures;

/// A server's clock starts after benchd's send and stops before benchd sees the event, so its times are the shorter
/// ones, by any amount: a front end that reads, applies the template, counts tokens and queues before the clock starts, or
/// holds text back after the first token (a parser of reasoning), takes as long of every client's time. By how much
/// a server's time may be longer than benchd's, as a share of it: two clocks, and rounding.
pub(super) const LONGER_SHARE: f64 = 0.01;
/// … or by how much in any case, milliseconds.
pub(super) const LONGER_MS: f64 = 1.0;
/// Times between tokens have no beginning outside the server: how far they may be apart, as a share.
pub(super) const BETWEEN_TOKENS_SHARE: f64 = 0.05;
/// … or in any case, milliseconds a token.
pub(super) const TPOT_MS: f64 = 1.0;
/// … or in any case, milliseconds over the whole answer.
pub(super) const GENERATION_MS: f64 = 10.0;

/// What the successful requests' records say, and the durations that the server gave in its answers, milliseconds.
/// Times are from the real send, also in an open loop.
#[derive(Default)]
pub(super) struct Timings {
    requests: u64,
    prompt_tokens: Option<u64>,
    output_tokens: Option<u64>,
    ttft_ms: Mean,
    latency_ms: Mean,
    tpot_ms: Mean,
    generation_ms: Mean,
    timed_ttft_ms: Mean,
    prompt_ms: Vec<f64>,
    predicted_ms: Vec<f64>,
    ttft_less_prompt_ms: Vec<f64>,
}

impl Timings {
    /// A successful request.
    pub(super) fn add(&mut self, r: &RequestRecord) {
        let ms = |us: u64| us as f64 / 1e3;
        self.requests += 1;
        for (total, tokens) in [
            (&mut self.prompt_tokens, r.prompt_tokens),
            (&mut self.output_tokens, r.output_tokens),
        ] {
            if let Some(tokens) = tokens {
                *total = Some(total.unwrap_or(0) + tokens);
            }
        }
        if let Some(first) = r.first_token_us {
            self.ttft_ms.add(ms(first));
        }
        self.latency_ms.add(ms(r.end_us));
        if let Some(tpot_us) = r.tpot_us() {
            self.tpot_ms.add(tpot_us / 1e3);
        }

        let Some(timings) = &r.server_timings else { return };
        let of = |name: &str| timings.get(name).and_then(serde_json::Value::as_f64);
        if let Some(predicted_ms) = of("predicted_ms") {
            self.predicted_ms.push(predicted_ms);
            if let Some((first, last)) = r.first_token_us.zip(r.last_token_us) {
                self.generation_ms.add(ms(last.saturating_sub(first)));
            }
        }
        if let Some(prompt_ms) = of("prompt_ms") {
            self.prompt_ms.push(prompt_ms);
            if let Some(first) = r.first_token_us {
                self.timed_ttft_ms.add(ms(first));
                self.ttft_less_prompt_ms.push(ms(first) - prompt_ms);
            }
        }
    }

    /// The server's figures out of its counters' growth over the cell, beside these. `failed` requests are in the
    /// server's counters and in none of ours; `seconds` is the length of the measured passes.
    pub(super) fn says(self, counters: &BTreeMap<String, f64>, failed: u64, seconds: f64) -> ServerSays {
        let own = server_figures(counters);
        let mut checks = Vec::new();
        let mut check = |figure, ours: Option<f64>, server: Option<f64>, shorter: f64, longer: f64| {
            let Some((ours, server)) = ours.zip(server) else {
                return;
            };
            checks.push(CrossCheck {
                figure,
                ours,
                server,
                least: (ours - shorter).max(0.0),
                most: ours + longer,
            });
        };
        // With failures the two are of different requests, and nothing can be said.
        if failed == 0 && self.requests > 0 {
            use CheckedFigure as F;
            let count = |n: Option<u64>| n.map(|n| n as f64);
            let rate = |tokens: Option<f64>| tokens.filter(|_| seconds > 0.0).map(|t| t / seconds);
            let outputs = count(self.output_tokens);
            for (figure, ours, server) in [
                (F::Requests, count(Some(self.requests)), own.requests),
                (F::PromptTokens, count(self.prompt_tokens), own.prompt_tokens),
                (F::OutputTokens, outputs, own.output_tokens),
                (F::OutputTokensPerS, rate(outputs), rate(own.output_tokens)),
            ] {
                check(figure, ours, server, 0.0, 0.0);
            }
            let longer = |ours: Option<f64>| (ours.unwrap_or(0.0) * LONGER_SHARE).max(LONGER_MS);
            for (figure, ours, server) in [
                (F::TtftMeanMs, self.ttft_ms.get(), own.ttft_mean_ms),
                (F::LatencyMeanMs, self.latency_ms.get(), own.latency_mean_ms),
            ] {
                check(figure, ours, server, ours.unwrap_or(0.0), longer(ours));
            }
            // llama-server's time for the prompt has no queue and no saving of an old slot in it: only more than
            // benchd's TTFT would be wrong.
            let (timed, prompt) = (self.timed_ttft_ms.get(), mean_of(&self.prompt_ms));
            check(F::TtftMeanMs, timed, prompt, timed.unwrap_or(0.0), longer(timed));
            let predicted = mean_of(&self.predicted_ms);
            for (figure, ours, server, least) in [
                (F::TpotMeanMs, self.tpot_ms.get(), own.tpot_mean_ms, TPOT_MS),
                (
                    F::GenerationMeanMs,
                    self.generation_ms.get(),
                    predicted,
                    GENERATION_MS,
                ),
            ] {
                let apart = (ours.unwrap_or(0.0) * BETWEEN_TOKENS_SHARE).max(least);
                check(figure, ours, server, apart, apart);
            }
        }
        ServerSays {
            prompt_tokens: own.prompt_tokens,
            output_tokens: own.output_tokens,
            ttft_mean_ms: own.ttft_mean_ms,
            prompt_ms: Distribution::of_values(self.prompt_ms, 0),
            predicted_ms: Distribution::of_values(self.predicted_ms, 0),
            ttft_less_prompt_ms: Distribution::of_values(self.ttft_less_prompt_ms, 0),
            checks,
        }
    }
}

fn mean_of(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// What does not agree, in words; `None` where all does.
pub(super) fn disagreement(says: &ServerSays) -> Option<String> {
    let parts: Vec<String> = says
        .checks
        .iter()
        .filter(|check| !check.agrees())
        .map(|check| {
            let digits = usize::from(!check.figure.is_count());
            format!(
                "{} {:.digits$} here, {:.digits$} by the server",
                check.figure.as_str(),
                check.ours,
                check.server
            )
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
