//! Command line of `benchd sim`: every flag with its unit, range and default, and the checked settings made of it.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::clock::{nanos, parse_duration};
use super::engine;
use super::error::SimError;
use super::faults::Fault;

/// Arguments of `benchd sim`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) host: IpAddr,
    /// Port to listen on; 0 takes a free one, which the line on stdout names.
    #[arg(long, default_value_t = 0)]
    pub(super) port: u16,
    /// Name of the served model.
    #[arg(long, default_value = "sim-model")]
    pub(super) model: String,
    /// Whose wire format and endpoints to imitate.
    #[arg(long, value_enum, default_value_t = Dialect::Vllm)]
    pub(super) dialect: Dialect,

    /// How streams share the machine. Default: batching, or serial where the dialect is ollama.
    #[arg(long, value_enum)]
    pub(super) mode: Option<Mode>,
    /// Fixed mode: from the request's last byte to the first chunk.
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    pub(super) ttft: Duration,
    /// Fixed mode: from chunk to chunk.
    #[arg(long, default_value = "10ms", value_parser = parse_duration)]
    pub(super) gap: Duration,
    /// Fixed mode: least time between the first chunks of two streams, so that a burst of requests becomes streams
    /// that keep apart (the due times in the stamps say what came of it).
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) spacing: Duration,
    /// Prompt tokens that are prefilled a second (batching and serial), 1 to 1e9.
    #[arg(long, default_value_t = 8000.0)]
    pub(super) prefill_rate: f64,
    /// Tokens a second that one stream gets when it is alone (batching and serial), 0.001 to 1e6.
    #[arg(long, default_value_t = 100.0)]
    pub(super) decode_rate: f64,
    /// What each further stream adds to a decoding step: throughput grows with concurrency, but less and less.
    #[arg(long, default_value = "100us", value_parser = parse_duration)]
    pub(super) stream_cost: Duration,
    /// Streams that run at once; others wait in order. Default: 256, or 1 in serial mode.
    #[arg(long)]
    pub(super) slots: Option<u32>,
    /// Prompt tokens that one step prefills at most (chunked prefill).
    #[arg(long, default_value_t = 2048)]
    pub(super) prefill_chunk: u32,
    /// Random share by which a step or gap is longer or shorter, 0 to 0.9.
    #[arg(long, default_value_t = 0.0)]
    pub(super) jitter: f64,
    /// Seed of the jitter.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,

    /// Keep prefixes of earlier prompts.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(super) prefix_cache: Switch,
    /// Size of the prefix cache, tokens; the least recently used blocks leave first.
    #[arg(long, default_value_t = 262_144)]
    pub(super) cache_tokens: u32,
    /// Block of the prefix cache, tokens: only whole blocks are found again.
    #[arg(long, default_value_t = 16)]
    pub(super) block_tokens: u32,

    /// Tokens that the chat template adds to each prompt.
    #[arg(long, default_value_t = 10)]
    pub(super) template_tokens: u32,
    /// Context length, tokens (prompt and output together).
    #[arg(long, default_value_t = 131_072)]
    pub(super) context: u32,
    /// What happens to a prompt that is longer than the context. Default: refuse, or silently where the dialect is
    /// ollama.
    #[arg(long, value_enum)]
    pub(super) truncate: Option<Truncate>,
    /// The answer's natural length, tokens. Default: none when `max_tokens` is asked for, else 256.
    #[arg(long)]
    pub(super) eos_after: Option<u32>,
    /// Whether `ignore_eos` and `min_tokens` count. Default: as the dialect does (ollama ignores them).
    #[arg(long, value_enum)]
    pub(super) ignore_eos: Option<Switch>,
    /// Language of the answers.
    #[arg(long, value_enum, default_value_t = TextKind::English)]
    pub(super) text: TextKind,
    /// Tokens of each answer that are reasoning.
    #[arg(long, default_value_t = 0)]
    pub(super) reasoning_tokens: u32,
    /// Field of reasoning deltas. Default: as the dialect does.
    #[arg(long, value_enum)]
    pub(super) reasoning_field: Option<ReasoningField>,
    /// Tokens of each chunk after the first (the first carries one).
    #[arg(long, default_value_t = 1)]
    pub(super) tokens_per_chunk: u32,
    /// Every so many tokens one makes no text, as special tokens do; 0 for never.
    #[arg(long, default_value_t = 0)]
    pub(super) empty_every: u32,
    /// Report cached prompt tokens in the usage.
    #[arg(long)]
    pub(super) report_cached: bool,
    /// A chunk with the role before the first token. Default: as the dialect does.
    #[arg(long, value_enum)]
    pub(super) role_chunk: Option<Switch>,
    /// The finish reason in a chunk of its own. Default: as the dialect does.
    #[arg(long, value_enum)]
    pub(super) finish_chunk: Option<Switch>,
    /// Put `"sim":{…}` with the emission's times into each chunk.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(super) stamps: Switch,

    /// How long the server takes to start.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) start_delay: Duration,
    /// What clients see meanwhile.
    #[arg(long, value_enum, default_value_t = StartStyle::Refuse)]
    pub(super) start_style: StartStyle,
    /// How long each health probe takes to be answered (SGLang: a second).
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) health_delay: Duration,
    /// Ollama: how long loading the model takes (at preload or at the first request).
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) load_delay: Duration,
    /// Ollama: the model is absent until it is created.
    #[arg(long)]
    pub(super) absent: bool,
    /// Ollama: share of the model that is on the GPU, 0 to 1 (`size_vram` of `/api/ps`).
    #[arg(long, default_value_t = 1.0)]
    pub(super) gpu_share: f64,
    /// Quantisation that `/api/show` reports.
    #[arg(long, default_value = "Q4_K_M")]
    pub(super) quantization: String,
    /// An idle connection is closed after this time.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(super) keep_alive: Duration,
    /// From TERM to the exit.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) stop_delay: Duration,

    /// A fault: KIND[@N][:PARAMETER], from the Nth completion on; may be given several times. `--fault list` prints
    /// the kinds.
    #[arg(long = "fault", value_name = "KIND[@N][:PARAM]")]
    pub(super) faults: Vec<String>,

    /// GPU memory that this process says it holds, bytes, by a file in `$FAKE_NVML_STATE.d/`.
    #[arg(long)]
    pub(super) gpu_bytes: Option<u64>,
    /// How long that memory stays in use after the exit, or `never` (it stays for good). A time needs a helper that
    /// outlives the server; benchd sweeps it, so memory that is late under benchd is `never` with the fake library's
    /// `reap_dead_after_ms`.
    #[arg(long, default_value = "0s", value_parser = ReleaseDelay::from_str)]
    pub(super) gpu_release_delay: ReleaseDelay,

    /// How long before a due time the emitter wakes and spins, at most: about what the machine takes to wake a thread.
    #[arg(long, default_value = "20us", value_parser = parse_duration)]
    pub(super) spin: Duration,
    /// End at once when this process, which must be the one that started this, ends.
    #[arg(long, hide = true, value_name = "PID")]
    pub(super) end_with: Option<i32>,
    /// Run as one of the helper processes of a process-level fault.
    #[arg(long, hide = true)]
    pub(super) as_child: Option<String>,
}

impl Default for Args {
    /// The arguments of a plain `benchd sim`.
    fn default() -> Self {
        Self::from_flags::<[&str; 0], &str>([]).unwrap_or_else(|e| unreachable!("defaults parse: {e}"))
    }
}

impl Args {
    /// Arguments from flags as on the command line, without the program's and the subcommand's name.
    ///
    /// # Errors
    /// A flag is unknown or its value can't be read.
    pub fn from_flags<I, S>(flags: I) -> Result<Self, SimError>
    where
        I: IntoIterator<Item = S>,
        S: Into<std::ffi::OsString> + Clone,
    {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Alone {
            #[command(flatten)]
            args: Args,
        }
        use clap::Parser as _;
        Alone::try_parse_from(flags)
            .map(|a| a.args)
            .map_err(|e| SimError::Arguments(e.to_string()))
    }

    /// The mode, with the dialect's default.
    pub(super) fn mode(&self) -> Mode {
        self.mode.unwrap_or(match self.dialect {
            Dialect::Ollama => Mode::Serial,
            _ => Mode::Batching,
        })
    }

    /// What happens to over-long prompts, with the dialect's default.
    pub(super) fn truncate(&self) -> Truncate {
        self.truncate.unwrap_or(match self.dialect {
            Dialect::Ollama => Truncate::Silently,
            _ => Truncate::Refuse,
        })
    }

    /// Whether `ignore_eos` counts, with the dialect's default.
    pub(super) fn honours_ignore_eos(&self) -> bool {
        self.ignore_eos
            .map_or(self.dialect != Dialect::Ollama, Switch::is_on)
    }

    /// The faults, parsed.
    ///
    /// # Errors
    /// A fault's kind or parameter can't be read.
    pub(super) fn faults(&self) -> Result<Vec<Fault>, SimError> {
        self.faults
            .iter()
            .map(|text| Ok(Fault::from_str(text)?))
            .collect()
    }

    /// The scheduling model's settings.
    ///
    /// # Errors
    /// A number is outside its range, or a step would take no time.
    pub(super) fn engine(&self) -> Result<engine::Settings, SimError> {
        let within = |name: &'static str, value: f64, min: f64, max: f64| {
            if value.is_finite() && (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(SimError::Range {
                    name,
                    value,
                    min,
                    max,
                })
            }
        };
        within("jitter", self.jitter, 0.0, 0.9)?;
        within("gpu-share", self.gpu_share, 0.0, 1.0)?;
        let prefill_rate = within("prefill-rate", self.prefill_rate, 1.0, 1e9)?;
        let decode_rate = within("decode-rate", self.decode_rate, 0.001, 1e6)?;
        let at_least_1 = |name: &'static str, value: u32| {
            within(name, f64::from(value), 1.0, f64::from(u32::MAX)).map(|_| value)
        };
        let step_ns = (1e9 / decode_rate) as u64;
        let stream_cost_ns = nanos(self.stream_cost);
        let Some(base_ns) = step_ns.checked_sub(stream_cost_ns) else {
            return Err(SimError::StreamCost {
                cost: self.stream_cost,
                step: Duration::from_nanos(step_ns),
            });
        };
        let schedule = match self.mode() {
            Mode::Fixed => engine::Schedule::Fixed {
                ttft_ns: nanos(self.ttft),
                gap_ns: nanos(self.gap).max(1),
                spacing_ns: nanos(self.spacing),
            },
            Mode::Batching | Mode::Serial => engine::Schedule::Steps {
                base_ns,
                stream_ns: stream_cost_ns,
                prefill_ns_per_token: 1e9 / prefill_rate,
                prefill_chunk: at_least_1("prefill-chunk", self.prefill_chunk)?,
                slots: match (self.slots, self.mode()) {
                    (Some(slots), _) => at_least_1("slots", slots)? as usize,
                    (None, Mode::Serial) => 1,
                    (None, _) => 256,
                },
            },
        };
        Ok(engine::Settings {
            schedule,
            jitter: self.jitter,
            seed: self.seed,
            tokens_per_chunk: at_least_1("tokens-per-chunk", self.tokens_per_chunk)?,
            cache_blocks: if self.prefix_cache.is_on() {
                (self.cache_tokens / at_least_1("block-tokens", self.block_tokens)?) as usize
            } else {
                0
            },
            block_tokens: at_least_1("block-tokens", self.block_tokens)?,
        })
    }
}

/// Whose wire format and endpoints to imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Dialect {
    /// vLLM: role chunk, finish reason in the last token's chunk, reasoning in both fields.
    Vllm,
    /// SGLang: role chunk, finish reason apart, `reasoning_content` in every delta.
    Sglang,
    /// Ollama: role in each chunk, finish reason apart, its native endpoints.
    Ollama,
    /// llama.cpp's server: role chunk with null content, finish reason apart, timings in the usage chunk.
    Llamacpp,
}

/// How streams share the simulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Continuous batching: each step gives one token to every running stream.
    Batching,
    /// One stream after the other, in order of arrival.
    Serial,
    /// A metronome: fixed first-token time and gap for each stream, whatever the load.
    Fixed,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// What happens to a prompt that does not fit the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Truncate {
    /// 400 with an error body.
    Refuse,
    /// The prompt's start is dropped; only the usage tells.
    Silently,
}

/// Language of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TextKind {
    /// English words, ASCII.
    English,
    /// Korean words, three bytes a syllable.
    Korean,
    /// The prompt's last word, again and again: a question that ends with its answer is answered right.
    LastWord,
}

/// Where reasoning deltas stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReasoningField {
    /// `reasoning`.
    #[value(name = "reasoning")]
    Reasoning,
    /// `reasoning_content`.
    #[value(name = "reasoning_content")]
    ReasoningContent,
    /// Both, with the same text.
    Both,
}

/// What clients see while the server starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StartStyle {
    /// No listener until ready.
    Refuse,
    /// Listens; everything is answered with 503 until ready.
    #[value(name = "503")]
    Unavailable,
    /// Listens; health is fine at once, completions are answered with 503 until ready.
    EarlyOk,
}

/// How long GPU memory stays in use after the process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReleaseDelay {
    /// For this time.
    After(Duration),
    /// For good.
    Never,
}

impl FromStr for ReleaseDelay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            Ok(Self::Never)
        } else {
            parse_duration(text).map(Self::After)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_gives_the_mode_and_flags_override_it() {
        let ollama = Args::from_flags(["--dialect", "ollama"]).unwrap();
        assert_eq!(ollama.mode(), Mode::Serial);
        assert_eq!(ollama.truncate(), Truncate::Silently);
        assert!(!ollama.honours_ignore_eos());
        let other =
            Args::from_flags(["--dialect", "ollama", "--mode", "fixed", "--ignore-eos", "on"]).unwrap();
        assert_eq!(other.mode(), Mode::Fixed);
        assert!(other.honours_ignore_eos());
    }

    #[test]
    fn a_step_that_takes_no_time_is_refused() {
        let args = Args::from_flags(["--decode-rate", "1000", "--stream-cost", "2ms"]).unwrap();
        assert!(matches!(args.engine(), Err(SimError::StreamCost { .. })));
        let args = Args::from_flags(["--jitter", "2"]).unwrap();
        assert!(matches!(
            args.engine(),
            Err(SimError::Range { name: "jitter", .. })
        ));
    }
}
