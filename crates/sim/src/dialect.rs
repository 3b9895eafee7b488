//! The wire format: what a chunk of each imitated server looks like.
//!
//! Everything that can be known when a request arrives is written then ([`Script`]); at emission only three slices
//! are copied and the times patched in. vLLM and SGLang have the fields of recorded streams of vLLM 0.26 and SGLang
//! 0.5.17 (without vLLM's null `prompt_token_ids`, `prompt_text` and its fingerprint); Ollama and llama.cpp have the
//! known traits of their streams (role in each chunk; null content first, timings last), not compared with a recording.
//!
//! The simulated server's own field, in each chunk that has JSON:
//!
//! ```json
//! "sim":{"n":3,"read_ns":   123,"due_ns":   456,"t_ns":   789}
//! ```
//!
//! `n` counts the answer's events from 0; `read_ns` is when the request's last byte was read, `due_ns` when the event
//! was due, `t_ns` when it was handed to the kernel (taken right before the write). All are nanoseconds of
//! `CLOCK_MONOTONIC`, right-aligned in 19 columns.

use std::io::Write as _;

use super::args::{Args, Dialect, ReasoningField, TextKind};
use super::text;

/// Columns of a time.
const STAMP_WIDTH: usize = 19;

/// How answers look, made once from the arguments.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) role_chunk: bool,
    pub(super) finish_chunk: bool,
    pub(super) reasoning: ReasoningField,
    pub(super) stamps: bool,
    pub(super) report_cached: bool,
    pub(super) empty_every: u32,
    pub(super) text: TextKind,
    pub(super) tokens_per_chunk: u32,
}

impl Shape {
    pub(super) fn new(args: &Args) -> Self {
        let dialect = args.dialect;
        Self {
            dialect,
            model: args.model.clone(),
            role_chunk: args.role_chunk.map_or(dialect != Dialect::Ollama, |s| s.is_on()),
            finish_chunk: args.finish_chunk.map_or(dialect != Dialect::Vllm, |s| s.is_on()),
            reasoning: args.reasoning_field.unwrap_or(match dialect {
                Dialect::Vllm => ReasoningField::Both,
                Dialect::Ollama => ReasoningField::Reasoning,
                Dialect::Sglang | Dialect::Llamacpp => ReasoningField::ReasoningContent,
            }),
            stamps: args.stamps.is_on(),
            report_cached: args.report_cached,
            empty_every: args.empty_every,
            text: args.text,
            tokens_per_chunk: args.tokens_per_chunk,
        }
    }

    /// Whether the head goes out when the request is read (uvicorn does), not with the first token.
    pub(super) fn early_head(&self) -> bool {
        matches!(self.dialect, Dialect::Vllm | Dialect::Sglang)
    }
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Length,
    Stop,
}

impl Finish {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }
}

/// Token counts of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u32,
    pub(super) completion: u32,
    pub(super) cached: u32,
    pub(super) reasoning: u32,
}

/// What one answer will say, written before its first token is due.
#[derive(Debug)]
pub(super) struct Script {
    shape: std::sync::Arc<Shape>,
    /// From `{` up to the choices, without the comma before them.
    head: Vec<u8>,
    pub(super) read_ns: u64,
    pub(super) output_tokens: u32,
    reasoning_tokens: u32,
    /// Where the answer's text begins in the vocabulary.
    text_start: usize,
    /// What each token says instead, JSON-escaped.
    word: Option<String>,
    pub(super) finish: Finish,
    model: String,
    id: String,
    created: u64,
}

/// One event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The role, no text.
    Role,
    /// Tokens from `first` on; `finish` puts the finish reason into the same chunk.
    Tokens { first: u32, count: u32, finish: bool },
    /// The finish reason alone.
    Finish,
    /// Token counts, no choice.
    Usage(Usage),
    /// An error in a stream whose status was 200.
    Error,
    /// `[DONE]`.
    Done,
}

/// Where in an event's bytes the times belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamps {
    due_at: usize,
    sent_at: usize,
}

impl Stamps {
    /// The same places after the first `cut` bytes, which lie before them, are gone.
    pub(super) fn after_cut(self, cut: usize) -> Self {
        Self {
            due_at: self.due_at - cut,
            sent_at: self.sent_at - cut,
        }
    }

    /// Patches both times into `bytes`.
    pub(super) fn patch(self, bytes: &mut [u8], due_ns: u64, sent_ns: u64) {
        put_number(bytes, self.due_at, due_ns);
        put_number(bytes, self.sent_at, sent_ns);
    }
}

fn put_number(bytes: &mut [u8], at: usize, mut value: u64) {
    let Some(field) = bytes.get_mut(at..at + STAMP_WIDTH) else {
        return;
    };
    for byte in field.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
}

/// What a request asks of its answer's form.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) read_ns: u64,
    pub(super) serial: u64,
    pub(super) created: u64,
    pub(super) output_tokens: u32,
    pub(super) reasoning_tokens: u32,
    pub(super) finish: Finish,
    /// Of the prompt: equal prompts get equal answers.
    pub(super) text_seed: u64,
    /// What each token says instead of the vocabulary's words.
    pub(super) word: Option<String>,
    /// Another model's name, if a fault asks for one.
    pub(super) model: Option<String>,
}

impl Script {
    pub(super) fn new(shape: &std::sync::Arc<Shape>, asked: Asked) -> Self {
        let model = asked.model.unwrap_or_else(|| shape.model.clone());
        let id = match shape.dialect {
            Dialect::Sglang => format!("{:032x}", asked.serial),
            Dialect::Ollama => format!("chatcmpl-{}", asked.serial),
            Dialect::Vllm | Dialect::Llamacpp => format!("chatcmpl-{:016x}", asked.serial),
        };
        let fingerprint = match shape.dialect {
            Dialect::Ollama => ",\"system_fingerprint\":\"fp_ollama\"",
            _ => "",
        };
        let head = format!(
            "{{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{}{fingerprint}",
            asked.created,
            json_string(&model),
        );
        let words = text::words(shape.text).len();
        Self {
            head: head.into_bytes(),
            read_ns: asked.read_ns,
            output_tokens: asked.output_tokens,
            reasoning_tokens: asked.reasoning_tokens.min(asked.output_tokens),
            text_start: usize::try_from(asked.text_seed % words as u64).unwrap_or(0),
            word: asked
                .word
                .map(|word| json_string(&word).trim_matches('"').to_owned()),
            finish: asked.finish,
            shape: std::sync::Arc::clone(shape),
            model,
            id,
            created: asked.created,
        }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn usage(&self, prompt: u32, cached: u32) -> Usage {
        Usage {
            prompt,
            completion: self.output_tokens,
            cached,
            reasoning: self.reasoning_tokens,
        }
    }

    /// Text of tokens `first..first + count`, JSON-escaped (the vocabulary needs no escapes).
    fn put_text(&self, first: u32, count: u32, out: &mut Vec<u8>) {
        let words = text::words(self.shape.text);
        for index in first..first.saturating_add(count) {
            if self.is_empty_token(index) {
                continue;
            }
            let at = (self.text_start + index as usize) % words.len();
            let word = self.word.as_deref().unwrap_or(words[at]);
            if index > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word.as_bytes());
        }
    }

    fn is_empty_token(&self, index: u32) -> bool {
        let every = self.shape.empty_every;
        every > 0 && (index + 1).is_multiple_of(every)
    }

    /// Whether the event is left out because it would carry no text, as all but vLLM do.
    pub(super) fn is_suppressed(&self, event: Event) -> bool {
        match event {
            Event::Tokens { first, count, finish } => {
                !finish
                    && self.shape.dialect != Dialect::Vllm
                    && (first..first + count).all(|i| self.is_empty_token(i))
            }
            _ => false,
        }
    }

    /// The JSON (or `[DONE]`) of `event`, the `n`th of the answer, appended to `out`.
    pub(super) fn put(&self, event: Event, n: u32, padding: usize, out: &mut Vec<u8>) -> Option<Stamps> {
        let dialect = self.shape.dialect;
        match event {
            Event::Done => {
                out.extend_from_slice(b"[DONE]");
                return None;
            }
            Event::Error => {
                out.extend_from_slice(
                    br#"{"error":{"message":"EngineCore encountered an issue. See stack trace for the root cause.","type":"InternalServerError","param":null,"code":500}}"#,
                );
                return None;
            }
            _ => {}
        }
        out.extend_from_slice(&self.head);
        if let Event::Usage(usage) = event {
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            self.put_usage(usage, out);
            if dialect == Dialect::Llamacpp {
                put(
                    out,
                    format_args!(
                        ",\"timings\":{{\"cache_n\":{},\"prompt_n\":{},\"predicted_n\":{}}}",
                        usage.cached,
                        usage.prompt - usage.cached,
                        usage.completion
                    ),
                );
            }
        } else {
            out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{");
            let finished = self.put_delta(event, out);
            out.extend_from_slice(b"}");
            self.put_choice_end(finished, out);
            out.extend_from_slice(b"]");
        }
        if padding > 0 {
            out.extend_from_slice(b",\"padding\":\"");
            out.resize(out.len() + padding, b'x');
            out.push(b'"');
        }
        let stamps = self.shape.stamps.then(|| self.put_stamps(n, out));
        out.push(b'}');
        stamps
    }

    /// The delta's fields; whether the finish reason goes with it.
    fn put_delta(&self, event: Event, out: &mut Vec<u8>) -> bool {
        let dialect = self.shape.dialect;
        if dialect == Dialect::Sglang
            && !matches!(event, Event::Tokens { first, .. } if first < self.reasoning_tokens)
        {
            out.extend_from_slice(b"\"reasoning_content\":null");
            if event != Event::Finish {
                out.push(b',');
            }
        }
        match event {
            Event::Role => {
                let content: &[u8] = if dialect == Dialect::Llamacpp {
                    b"null"
                } else {
                    b"\"\""
                };
                out.extend_from_slice(b"\"role\":\"assistant\",\"content\":");
                out.extend_from_slice(content);
                false
            }
            Event::Tokens { first, count, finish } => {
                if dialect == Dialect::Ollama {
                    out.extend_from_slice(b"\"role\":\"assistant\",");
                }
                // A chunk that spans the border carries both.
                let thought = self.reasoning_tokens.saturating_sub(first).min(count);
                if thought > 0 {
                    if thought == count && dialect == Dialect::Ollama {
                        out.extend_from_slice(b"\"content\":\"\",");
                    }
                    let fields: &[&str] = match self.shape.reasoning {
                        ReasoningField::Reasoning => &["reasoning"],
                        ReasoningField::ReasoningContent => &["reasoning_content"],
                        ReasoningField::Both => &["reasoning", "reasoning_content"],
                    };
                    for (i, field) in fields.iter().enumerate() {
                        put(
                            out,
                            format_args!("{}\"{field}\":\"", if i > 0 { "," } else { "" }),
                        );
                        self.put_text(first, thought, out);
                        out.push(b'"');
                    }
                }
                if thought < count {
                    out.extend_from_slice(if thought > 0 {
                        b",\"content\":\""
                    } else {
                        b"\"content\":\""
                    });
                    self.put_text(first + thought, count - thought, out);
                    out.push(b'"');
                }
                finish
            }
            Event::Finish => {
                if dialect == Dialect::Ollama {
                    out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"");
                }
                true
            }
            Event::Usage(_) | Event::Error | Event::Done => false,
        }
    }

    fn put_choice_end(&self, finished: bool, out: &mut Vec<u8>) {
        let dialect = self.shape.dialect;
        if matches!(dialect, Dialect::Vllm | Dialect::Sglang) {
            out.extend_from_slice(b",\"logprobs\":null");
        }
        if finished {
            put(
                out,
                format_args!(",\"finish_reason\":\"{}\"", self.finish.as_str()),
            );
        } else {
            out.extend_from_slice(b",\"finish_reason\":null");
        }
        match dialect {
            Dialect::Vllm if finished => out.extend_from_slice(b",\"stop_reason\":null,\"token_ids\":null"),
            Dialect::Vllm => out.extend_from_slice(b",\"token_ids\":null"),
            Dialect::Sglang => out.extend_from_slice(b",\"matched_stop\":null"),
            Dialect::Ollama | Dialect::Llamacpp => {}
        }
        out.push(b'}');
    }

    fn put_usage(&self, usage: Usage, out: &mut Vec<u8>) {
        let Usage {
            prompt,
            completion,
            cached,
            reasoning,
        } = usage;
        put(
            out,
            format_args!(
                "{{\"prompt_tokens\":{prompt},\"total_tokens\":{},\"completion_tokens\":{completion}",
                u64::from(prompt) + u64::from(completion)
            ),
        );
        // vLLM leaves the details out where nothing was cached; SGLang says null.
        let tells = self.shape.report_cached && (cached > 0 || self.shape.dialect == Dialect::Llamacpp);
        if tells {
            put(
                out,
                format_args!(",\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}"),
            );
        } else if self.shape.dialect == Dialect::Sglang {
            out.extend_from_slice(b",\"prompt_tokens_details\":null");
        }
        if self.shape.dialect == Dialect::Sglang {
            put(out, format_args!(",\"reasoning_tokens\":{reasoning}"));
        }
        out.push(b'}');
    }

    fn put_stamps(&self, n: u32, out: &mut Vec<u8>) -> Stamps {
        let blank = [b' '; STAMP_WIDTH];
        put(out, format_args!(",\"sim\":{{\"n\":{n},\"read_ns\":"));
        let read_at = out.len();
        out.extend_from_slice(&blank);
        put_number(out, read_at, self.read_ns);
        out.extend_from_slice(b",\"due_ns\":");
        let due_at = out.len();
        out.extend_from_slice(&blank);
        out.extend_from_slice(b",\"t_ns\":");
        let sent_at = out.len();
        out.extend_from_slice(&blank);
        out.push(b'}');
        Stamps { due_at, sent_at }
    }

    /// The whole answer as one object, for requests that do not stream. Its times are in columns, too.
    pub(super) fn put_whole(&self, usage: Usage, out: &mut Vec<u8>) -> Option<Stamps> {
        put(
            out,
            format_args!(
                "{{\"id\":\"{}\",\"object\":\"chat.completion\",\"created\":{},\"model\":{},\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\"",
                self.id,
                self.created,
                json_string(&self.model)
            ),
        );
        let thought = self.reasoning_tokens;
        if thought > 0 {
            let field = match self.shape.reasoning {
                ReasoningField::Reasoning | ReasoningField::Both => "reasoning",
                ReasoningField::ReasoningContent => "reasoning_content",
            };
            put(out, format_args!(",\"{field}\":\""));
            self.put_text(0, thought, out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"content\":\"");
        self.put_text(thought, self.output_tokens - thought, out);
        put(
            out,
            format_args!(
                "\"}},\"finish_reason\":\"{}\"}}],\"usage\":",
                self.finish.as_str()
            ),
        );
        self.put_usage(usage, out);
        let stamps = self.shape.stamps.then(|| self.put_stamps(0, out));
        out.push(b'}');
        stamps
    }
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to a Vec can't fail.
    let _ = out.write_fmt(arguments);
}

/// `text` as a JSON string with its quotes.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
