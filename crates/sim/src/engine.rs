//! The scheduling model, pure: requests and times in, due times of chunks out. It reads no clock and does no I/O.
//!
//! *Steps* (continuous batching; with one slot: one request after the other). A step begins when the one before it
//! ends, or at an arrival if nothing runs. At its start waiting requests are admitted, in order of arrival, while
//! there are free slots. It prefills up to `prefill_chunk` prompt tokens that the prefix cache does not hold, in
//! order, and decodes one token for each stream whose prompt is done:
//!
//! ```text
//! duration = (base + stream_cost * decoding streams + prefilled tokens / prefill rate) * (1 ± jitter)
//! ```
//!
//! A prompt whose last tokens are prefilled in a step gets its first token at the step's end. So a lone stream of n
//! prompt tokens (one chunk) has its first token after `base + n / prefill rate` and the next after
//! `base + stream_cost` each.
//!
//! *Fixed*: the first chunk `ttft` after the request's last byte, each further one `gap` later, whatever else runs.
//! With a `spacing` a first chunk comes no sooner than that after the first chunk of the stream before it: requests
//! that arrive in a burst then keep apart for as long as they run.
//!
//! Due times follow from due times, never from when somebody looked: lateness of the caller does not add up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::cache::PrefixCache;
use super::lock::lock;

/// Settings of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    /// How streams share the machine.
    pub(super) schedule: Schedule,
    /// Random share by which a step or gap is longer or shorter, 0 to 0.9.
    pub(super) jitter: f64,
    /// Seed of the jitter.
    pub(super) seed: u64,
    /// Tokens of each chunk after the first, at least 1.
    pub(super) tokens_per_chunk: u32,
    /// Blocks of the prefix cache; 0 switches it off.
    pub(super) cache_blocks: usize,
    /// Tokens of a block, at least 1.
    pub(super) block_tokens: u32,
}

/// How streams share the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Schedule {
    /// Each stream by itself, nanoseconds.
    Fixed {
        /// From the arrival to the first chunk.
        ttft_ns: u64,
        /// From chunk to chunk.
        gap_ns: u64,
        /// Least time between the first chunks of two streams.
        spacing_ns: u64,
    },
    /// Steps that all running streams share.
    Steps {
        /// What a step takes in any case, nanoseconds.
        base_ns: u64,
        /// What each decoding stream adds, nanoseconds.
        stream_ns: u64,
        /// What each prefilled token adds, nanoseconds.
        prefill_ns_per_token: f64,
        /// Prompt tokens that a step prefills at most.
        prefill_chunk: u32,
        /// Streams that run at once.
        slots: usize,
    },
}

/// A request as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Whatever names it; unique among those in the engine.
    pub(super) id: u64,
    /// When it arrived, monotonic nanoseconds.
    pub(super) arrived_ns: u64,
    /// Prompt tokens, the template's included.
    pub(super) prompt_tokens: u32,
    /// Tokens that the answer will have, at least 1.
    pub(super) output_tokens: u32,
    /// Hashes of the prompt's whole blocks.
    pub(super) blocks: Vec<u64>,
}

/// A chunk that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick {
    /// The job's.
    pub(super) id: u64,
    /// By `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) due_ns: u64,
    /// Index of the chunk's first token in the answer, from 0.
    pub(super) first_token: u32,
    /// Tokens in the chunk, at least 1.
    pub(super) tokens: u32,
    /// Whether it is the answer's last.
    pub(super) last: bool,
    /// Prompt tokens that the prefix cache held.
    pub(super) cached_tokens: u32,
}

#[derive(Debug)]
struct Running {
    job: Job,
    cached_tokens: u32,
    prefill_left: u32,
    decoded: u32,
    /// Of those, in chunks that were given out.
    given: u32,
    /// Whether this step completes the prompt or decodes a token.
    token_at_step_end: bool,
}

/// The model: requests that wait and run, and chunks that are ready.
#[derive(Debug)]
pub(super) struct Engine {
    settings: Settings,
    rng: ChaCha8Rng,
    cache: Arc<Mutex<PrefixCache>>,
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    step_end_ns: Option<u64>,
    ready: VecDeque<Tick>,
    fixed: HashMap<u64, Fixed>,
    fixed_due: BinaryHeap<Reverse<(u64, u64)>>,
    /// When the last stream's first chunk is due.
    last_first_ns: Option<u64>,
}

#[derive(Debug)]
struct Fixed {
    /// When the first chunk is due.
    first_ns: u64,
    output_tokens: u32,
    given: u32,
    chunk: u64,
    cached_tokens: u32,
}

impl Engine {
    /// An engine with nothing to do.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            cache: Arc::new(Mutex::new(PrefixCache::new(settings.cache_blocks))),
            waiting: VecDeque::new(),
            running: Vec::new(),
            step_end_ns: None,
            ready: VecDeque::new(),
            fixed: HashMap::new(),
            fixed_due: BinaryHeap::new(),
            last_first_ns: None,
        }
    }

    /// The prefix cache, for resets from elsewhere.
    pub(super) fn cache(&self) -> Arc<Mutex<PrefixCache>> {
        Arc::clone(&self.cache)
    }

    /// Streams that run, and requests that wait.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.running.len() + self.fixed.len(), self.waiting.len())
    }

    /// Takes a request in. Requests must come in order of arrival to be served in that order.
    pub(super) fn submit(&mut self, job: Job) {
        match self.settings.schedule {
            Schedule::Fixed {
                ttft_ns, spacing_ns, ..
            } => {
                let cached_tokens = self.look_up(&job);
                self.keep(&job);
                let first_ns = job.arrived_ns.saturating_add(ttft_ns);
                let first_ns = match self.last_first_ns {
                    Some(last) if spacing_ns > 0 => first_ns.max(last.saturating_add(spacing_ns)),
                    _ => first_ns,
                };
                self.last_first_ns = Some(first_ns);
                self.fixed_due.push(Reverse((first_ns, job.id)));
                self.fixed.insert(
                    job.id,
                    Fixed {
                        first_ns,
                        output_tokens: job.output_tokens,
                        given: 0,
                        chunk: 0,
                        cached_tokens,
                    },
                );
            }
            Schedule::Steps { .. } => {
                let arrived_ns = job.arrived_ns;
                self.waiting.push_back(job);
                if self.step_end_ns.is_none() {
                    self.start_step(arrived_ns);
                }
            }
        }
    }

    /// Forgets a request; unknown ones are ignored. The step that runs keeps its length.
    pub(super) fn cancel(&mut self, id: u64) {
        self.fixed.remove(&id);
        self.waiting.retain(|j| j.id != id);
        self.running.retain(|r| r.job.id != id);
        self.ready.retain(|t| t.id != id);
    }

    /// When the next chunk is due or a step ends; `None` if nothing is to do.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        if let Some(tick) = self.ready.front() {
            return Some(tick.due_ns);
        }
        while let Some(Reverse((due, id))) = self.fixed_due.peek() {
            if self.fixed.contains_key(id) {
                return Some(*due);
            }
            self.fixed_due.pop();
        }
        self.step_end_ns
    }

    /// The next chunk that is due at `now_ns` or before; chunks come in order of their due times.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<Tick> {
        match self.settings.schedule {
            Schedule::Fixed { gap_ns, .. } => self.pop_fixed(now_ns, gap_ns),
            Schedule::Steps { .. } => {
                while self.ready.is_empty() {
                    let end = self.step_end_ns.filter(|end| *end <= now_ns)?;
                    self.end_step(end);
                    self.start_step(end);
                }
                self.ready.pop_front()
            }
        }
    }

    fn pop_fixed(&mut self, now_ns: u64, gap_ns: u64) -> Option<Tick> {
        let due_ns = self.next_due().filter(|due| *due <= now_ns)?;
        let Reverse((_, id)) = self.fixed_due.pop()?;
        let jitter = if self.settings.jitter > 0.0 {
            // Within the gap's grid, so that chunks stay in order.
            (self.rng.random::<f64>() * self.settings.jitter * gap_ns as f64) as u64
        } else {
            0
        };
        let stream = self.fixed.get_mut(&id)?;
        let tokens = group(stream.given, stream.output_tokens, self.settings.tokens_per_chunk);
        let tick = Tick {
            id,
            due_ns,
            first_token: stream.given,
            tokens,
            last: stream.given + tokens >= stream.output_tokens,
            cached_tokens: stream.cached_tokens,
        };
        stream.given += tokens;
        stream.chunk += 1;
        if tick.last {
            self.fixed.remove(&id);
        } else {
            let next = stream
                .first_ns
                .saturating_add(stream.chunk.saturating_mul(gap_ns))
                .saturating_add(jitter);
            self.fixed_due.push(Reverse((next, id)));
        }
        Some(tick)
    }

    /// Begins a step at `at_ns`, or later if the next request arrives later; none if nothing waits or runs.
    fn start_step(&mut self, at_ns: u64) {
        let Schedule::Steps {
            base_ns,
            stream_ns,
            prefill_ns_per_token,
            prefill_chunk,
            slots,
        } = self.settings.schedule
        else {
            return;
        };
        self.step_end_ns = None;
        let at_ns = match (self.running.is_empty(), self.waiting.front()) {
            (true, None) => return,
            (true, Some(job)) => at_ns.max(job.arrived_ns),
            (false, _) => at_ns,
        };
        while self.running.len() < slots {
            let Some(job) = self.waiting.pop_front_if(|job| job.arrived_ns <= at_ns) else {
                break;
            };
            let cached_tokens = self.look_up(&job);
            self.running.push(Running {
                cached_tokens,
                prefill_left: job.prompt_tokens.saturating_sub(cached_tokens).max(1),
                decoded: 0,
                given: 0,
                token_at_step_end: false,
                job,
            });
        }
        let (mut budget, mut decoding) = (prefill_chunk, 0_u64);
        for stream in &mut self.running {
            if stream.prefill_left == 0 {
                decoding += 1;
                stream.token_at_step_end = true;
            } else {
                let part = stream.prefill_left.min(budget);
                stream.prefill_left -= part;
                budget -= part;
                stream.token_at_step_end = part > 0 && stream.prefill_left == 0;
            }
        }
        let prefilled = f64::from(prefill_chunk - budget);
        let mut duration = (base_ns + decoding * stream_ns) as f64 + prefilled * prefill_ns_per_token;
        if self.settings.jitter > 0.0 {
            duration *= 1.0 + self.settings.jitter * (2.0 * self.rng.random::<f64>() - 1.0);
        }
        self.step_end_ns = Some(at_ns.saturating_add((duration as u64).max(1)));
    }

    fn end_step(&mut self, due_ns: u64) {
        let group_size = self.settings.tokens_per_chunk;
        let mut prompts_done = Vec::new();
        for stream in self.running.iter_mut().filter(|s| s.token_at_step_end) {
            if stream.decoded == 0 {
                prompts_done.push(std::mem::take(&mut stream.job.blocks));
            }
            stream.decoded += 1;
            let tokens = group(stream.given, stream.job.output_tokens, group_size);
            if stream.decoded < stream.given + tokens {
                continue;
            }
            self.ready.push_back(Tick {
                id: stream.job.id,
                due_ns,
                first_token: stream.given,
                tokens,
                last: stream.decoded >= stream.job.output_tokens,
                cached_tokens: stream.cached_tokens,
            });
            stream.given += tokens;
        }
        self.running.retain(|s| s.decoded < s.job.output_tokens);
        let mut cache = lock(&self.cache);
        for blocks in prompts_done {
            cache.insert(&blocks);
        }
    }

    /// Cached tokens of a prompt; at least its last token is always computed.
    fn look_up(&self, job: &Job) -> u32 {
        let mut cache = lock(&self.cache);
        let blocks = cache.lookup(&job.blocks);
        let whole = u32::try_from(blocks)
            .unwrap_or(u32::MAX)
            .saturating_mul(self.settings.block_tokens);
        if whole < job.prompt_tokens {
            whole
        } else {
            whole.saturating_sub(self.settings.block_tokens)
        }
    }

    fn keep(&self, job: &Job) {
        let mut cache = lock(&self.cache);
        cache.insert(&job.blocks);
    }
}

/// Tokens of the chunk that begins at token `given`: one in the first, then `size`, in the last what is left.
pub(super) fn group(given: u32, output_tokens: u32, size: u32) -> u32 {
    let want = if given == 0 { 1 } else { size };
    want.min(output_tokens.saturating_sub(given)).max(1)
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
