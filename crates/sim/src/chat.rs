//! A chat completion from the request's bytes to the engine's job: which faults meet it, how long its prompt and its
//! answer are, and what the answer will look like.

use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;
use serde_json::Value;

use super::api::{Action, Api, Completion};
use super::args::{Dialect, TextKind, Truncate};
use super::clock::unix_seconds;
use super::dialect::{Asked, Finish, Script};
use super::engine::Job;
use super::faults::{Fault, Kind};
use super::http::{Request, Response};
use super::process_faults;
use super::stream_faults::StreamFaults;
use super::tokenizer::{self, Token};

/// Natural length of an answer whose request sets no limit, tokens.
const NATURAL_TOKENS: u32 = 256;

/// The fields of a chat request that count here.
#[derive(Debug, Deserialize)]
struct ChatRequest {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    min_tokens: Option<u32>,
    #[serde(default)]
    ignore_eos: bool,
    #[serde(default)]
    reasoning_effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A message of a prompt.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    content: Option<Value>,
}

impl Message {
    /// The message's text; of content in parts, the text parts.
    fn put_text(&self, tokens: &mut Vec<Token>) {
        match &self.content {
            Some(Value::String(text)) => tokenizer::tokenize(text, tokens),
            Some(Value::Array(parts)) => {
                for text in parts.iter().filter_map(|p| p.get("text")?.as_str()) {
                    tokenizer::tokenize(text, tokens);
                }
            }
            _ => {}
        }
    }
}

/// The last word of the last message that has text.
fn last_word(messages: &[Message]) -> Option<String> {
    let content = messages.iter().rev().find_map(|m| m.content.as_ref()?.as_str())?;
    content.split_whitespace().next_back().map(str::to_owned)
}

impl Api {
    /// What the answer says again and again, where it is not made of the vocabulary.
    fn word(&mut self, messages: &[Message], kinds: &[Kind]) -> Option<String> {
        if self.args.text != TextKind::LastWord || kinds.contains(&Kind::Noise) {
            return None;
        }
        let own = last_word(messages)?;
        let before = std::mem::replace(&mut self.last_word, own.clone());
        Some(if kinds.contains(&Kind::MixUp) { before } else { own })
    }

    /// Tokens of a prompt: the template's, then each message's.
    pub(super) fn prompt(&self, messages: &[Message]) -> Vec<Token> {
        let mut tokens: Vec<Token> = (0..self.args.template_tokens).collect();
        for message in messages {
            message.put_text(&mut tokens);
        }
        tokens
    }

    pub(super) fn chat(&mut self, request: &Request, now_ns: u64) -> Action {
        let mut kinds: Vec<Kind> = self.next_faults().cloned().collect();
        self.completions += 1;
        self.metrics.requests.fetch_add(1, Relaxed);
        if let Some(header) = &request.fault {
            match Fault::parse_list(header) {
                Ok(faults) => kinds.extend(faults.into_iter().map(|f| f.kind)),
                Err(e) => return Action::Answer(self.error(400, &format!("x-sim-fault: {e}"))),
            }
        }
        for kind in &kinds {
            match kind {
                Kind::NeverAnswer => return Action::Silence,
                Kind::Http(status) => {
                    return Action::Answer(self.error(*status, "the simulated server was told to fail"));
                }
                Kind::HealthLies => return Action::Answer(self.error(503, "the model is not loaded")),
                Kind::Html(status) => {
                    return Action::Answer(Response {
                        status: *status,
                        content_type: "text/html",
                        body: b"<html><body><h1>Bad Gateway</h1></body></html>\n".to_vec(),
                    });
                }
                _ => {}
            }
        }
        // Faults without @N met the process at its start.
        for fault in self
            .faults
            .iter()
            .filter(|f| !f.at_start() && f.meets(self.completions))
        {
            process_faults::die_if(&fault.kind);
        }
        let asked: ChatRequest = match serde_json::from_slice(&request.body) {
            Ok(asked) => asked,
            Err(e) => return Action::Answer(self.error(400, &format!("the body is no chat request: {e}"))),
        };
        match self.completion(asked, &kinds, now_ns) {
            Ok(completion) => Action::Complete(Box::new(completion)),
            Err(response) => Action::Answer(response),
        }
    }

    fn completion(
        &mut self,
        asked: ChatRequest,
        kinds: &[Kind],
        now_ns: u64,
    ) -> Result<Completion, Response> {
        let name = asked.model.as_deref().unwrap_or_default();
        let knows = self.ollama.model_names().iter().any(|known| known == name);
        let checks_name = matches!(self.args.dialect, Dialect::Vllm | Dialect::Ollama);
        if checks_name && !knows {
            return Err(self.error(404, &format!("The model `{name}` does not exist.")));
        }
        if asked.messages.is_empty() {
            return Err(self.error(400, "messages: at least one is needed"));
        }
        if self.args.dialect == Dialect::Ollama
            && asked.reasoning_effort.is_some()
            && self.args.reasoning_tokens == 0
        {
            return Err(self.error(400, &format!("\"{name}\" does not support thinking")));
        }
        let mut tokens = self.prompt(&asked.messages);
        let max_tokens = match self.args.dialect {
            Dialect::Ollama => asked.max_tokens,
            _ => asked.max_tokens.or(asked.max_completion_tokens),
        };
        if max_tokens == Some(0) {
            return Err(self.error(400, "max_tokens must be at least 1"));
        }
        let context = self.args.context as usize;
        if self.args.truncate() == Truncate::Refuse {
            let wanted = tokens.len() + max_tokens.unwrap_or(1) as usize;
            if wanted > context {
                return Err(self.error(
                    400,
                    &format!("This model's maximum context length is {context} tokens. However, you requested {wanted} tokens."),
                ));
            }
        } else if tokens.len() > context {
            // The template and the prompt's end stay, as Ollama does it.
            let (keep, drop) = (self.args.template_tokens as usize, tokens.len() - context);
            let keep = keep.min(context);
            tokens.drain(keep..keep + drop);
        }
        let room = u32::try_from(context.saturating_sub(tokens.len())).unwrap_or(u32::MAX);
        let room = if self.args.truncate() == Truncate::Refuse {
            room
        } else {
            u32::MAX
        };
        let (output_tokens, finish) = self.length(&asked, max_tokens, kinds, room);
        let arrived_ns = self.ollama.loaded_by(now_ns);
        self.serial += 1;
        let text_seed = tokens
            .iter()
            .fold(self.args.seed, |h, t| h.rotate_left(5) ^ u64::from(*t));
        let word = self.word(&asked.messages, kinds);
        let script = Script::new(
            &self.shape,
            Asked {
                read_ns: now_ns,
                serial: self.serial,
                created: unix_seconds(),
                output_tokens,
                reasoning_tokens: self.args.reasoning_tokens,
                finish,
                text_seed,
                word,
                model: kinds.iter().rev().find_map(|k| match k {
                    Kind::WrongModel(name) => Some(name.clone()),
                    _ => None,
                }),
            },
        );
        let not_a_stream = kinds.contains(&Kind::NotAStream);
        Ok(Completion {
            job: Job {
                id: self.serial,
                arrived_ns,
                prompt_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
                output_tokens,
                blocks: tokenizer::block_hashes(&tokens, self.args.block_tokens),
            },
            script,
            streams: asked.stream && !not_a_stream,
            include_usage: asked.stream_options.is_some_and(|o| o.include_usage),
            faults: StreamFaults::of(kinds.iter()),
        })
    }

    /// How many tokens the answer has, and why it ends there.
    fn length(&self, asked: &ChatRequest, max: Option<u32>, kinds: &[Kind], room: u32) -> (u32, Finish) {
        let forced = kinds.iter().find_map(|k| match k {
            Kind::EosAfter(n) => Some(*n),
            _ => None,
        });
        let honours = self.args.honours_ignore_eos();
        let natural = match (self.args.eos_after, max) {
            (Some(n), _) => Some(n.max(1)),
            (None, Some(_)) => None,
            (None, None) => Some(NATURAL_TOKENS),
        };
        let natural = natural
            .filter(|_| !(asked.ignore_eos && honours && max.is_some()))
            .map(|n| {
                if honours {
                    n.max(asked.min_tokens.unwrap_or(0))
                } else {
                    n
                }
            });
        let end = [forced, natural].into_iter().flatten().min().unwrap_or(u32::MAX);
        let limit = max.unwrap_or(u32::MAX).min(room).max(1);
        if end < limit {
            (end, Finish::Stop)
        } else {
            (limit, Finish::Length)
        }
    }
}
