//! What servers write into their logs of how they loaded. Known by the wording, not by the kind in the plan: a
//! `command` may start any of them, and Ollama's runner writes what llama.cpp writes.
//!
//! All of them count in powers of two, whatever they call it: vLLM and SGLang divide by 2^30 and write `GiB` or `GB`.
//! Where each line comes from stands at its pattern; recorded logs of the versions are in the tests.

use std::collections::{BTreeMap, BTreeSet};

use benchd_core::record::LoadFigures;

/// The figures in a server's output since its launch; empty where it says nothing. Where a server loads its model more
/// than once (Ollama), the newest load counts.
pub fn load_figures(log: &str) -> LoadFigures {
    let mut reader = Reader::default();
    for line in log.lines() {
        reader.line(line);
    }
    reader.figures()
}

/// Bytes by device or rank.
type ByPlace = BTreeMap<String, u64>;

#[derive(Debug, Default)]
struct Reader {
    weights: ByPlace,
    kv_cache: ByPlace,
    compute: ByPlace,
    kv_cache_tokens: Option<u64>,
    load_ms: Option<u64>,
    /// A new load was announced: its first figure clears those of the load before.
    anew: bool,
    /// When llama-server began to load, milliseconds by its own clock.
    llama_began_ms: Option<u64>,
}

/// What a figure is of.
enum Kind {
    Weights,
    KvCache,
    Compute,
}

impl Reader {
    fn line(&mut self, line: &str) {
        // Ollama: a runner of its own for each load (and for each look at the devices, which gives no figures).
        if line.contains("msg=\"starting runner\"") || line.contains("msg=\"starting llama server\"") {
            self.anew = true;
            return;
        }
        self.vllm(line);
        self.sglang(line);
        self.llama(line);
        self.ollama(line);
    }

    /// `(EngineCore pid=1252) INFO … Model loading took 15.0 GiB and 2.626892 seconds`; to 0.26 `… 13.03 GiB memory and`.
    /// Of several ranks each writes it, or (from 0.10) only the first.
    fn vllm(&mut self, line: &str) {
        let rank = || process(line).to_owned();
        if let Some(rest) = after(line, "Model loading took ") {
            self.add(Kind::Weights, &rank(), size(rest));
            self.took(after(rest, " and ").and_then(seconds));
        } else if let Some(rest) = after(line, "Available KV cache memory: ") {
            self.add(Kind::KvCache, &rank(), size(rest));
        } else if let Some(rest) = after(line, "Graph capturing finished in ") {
            self.add(Kind::Compute, &rank(), after(rest, ", took ").and_then(size));
        } else if let Some(rest) = after(line, "Explicitly set (")
            && rest.contains("GiB for KV cache")
        {
            // On a CPU: "Explicitly set (1.0/23.54) GiB for KV cache on node 0."
            let gib = rest.split('/').next().and_then(|n| n.parse::<f64>().ok());
            self.add(Kind::KvCache, "CPU", gib.and_then(|n| bytes(n, GIB)));
        } else if let Some(rest) = after(line, "PU KV cache size: ") {
            // "GPU KV cache size: 417,536 tokens", on a CPU "CPU KV cache size: …".
            if rest.contains(" tokens") {
                self.kv_cache_tokens = count(rest).or(self.kv_cache_tokens);
            }
        }
    }

    /// `[2026-11-24 12:37:52 TP0] Load weight end. elapsed=0.88 s, …, avail mem=63.48 GB, mem usage=15.02 GB.`
    /// Of several ranks each writes it. A model with sliding windows has two pools, each with its line.
    fn sglang(&mut self, line: &str) {
        let rank = || rank(line).to_owned();
        if let Some(rest) = after(line, "Load weight end.") {
            self.add(Kind::Weights, &rank(), after(rest, "mem usage=").and_then(size));
            self.took(after(rest, "elapsed=").and_then(seconds));
        } else if let Some(rest) = after(line, "KV Cache is allocated.") {
            // "K size: 13.27 GB, V size: 13.27 GB"; of a latent cache "KV size: 20.1 GB".
            let halves = ["K size: ", "V size: "].map(|name| after(rest, name).and_then(size));
            let bytes = match halves {
                [Some(keys), Some(values)] => Some(keys.saturating_add(values)),
                _ => after(rest, "KV size: ").and_then(size),
            };
            self.add(Kind::KvCache, &rank(), bytes);
            // With sliding windows the first pool is the one that holds whole contexts.
            let tokens = after(rest, "#tokens: ").and_then(count);
            self.kv_cache_tokens = self.kv_cache_tokens.or(tokens);
        } else if let Some(rest) = after(line, "max_total_num_tokens=") {
            self.kv_cache_tokens = count(rest).or(self.kv_cache_tokens);
        } else if let Some(rest) =
            after(line, "CUDA graph end.").or_else(|| after(line, "Capture cuda graph end."))
        {
            self.add(Kind::Compute, &rank(), after(rest, "mem usage=").and_then(size));
        }
    }

    /// `load_tensors:        CUDA0 model buffer size =  4403.49 MiB`; llama-server writes buffers only with more than its
    /// usual words.
    fn llama(&mut self, line: &str) {
        for (what, kind) in [
            (" model buffer size", Kind::Weights),
            (" KV buffer size", Kind::KvCache),
            (" compute buffer size", Kind::Compute),
        ] {
            if let Some((before, rest)) = line.split_once(what) {
                let place = before.rsplit([' ', '\t']).next().unwrap_or_default().to_owned();
                self.add(kind, &place, after(rest, "=").and_then(size));
                return;
            }
        }
        // "llama_kv_cache: size =  78.75 MiB (  3584 cells,  30 layers,  4/1 seqs)": cells of each of so many streams;
        // before it was "llama_kv_cache_unified: kv_size = 3584, …". A cache with sliding windows has a second, smaller
        // one: the first holds the whole context.
        if line.contains("llama_kv_cache") {
            let cells = if let Some((before, rest)) = line.split_once(" cells,") {
                let cells = before
                    .rsplit([' ', '('])
                    .next()
                    .and_then(|n| n.parse::<u64>().ok());
                let streams = after(rest, "/").and_then(count).unwrap_or(1);
                cells.and_then(|cells| cells.checked_mul(streams))
            } else {
                after(line, "kv_size = ").and_then(count)
            };
            if cells.is_some() {
                self.begun();
                self.kv_cache_tokens = self.kv_cache_tokens.or(cells);
            }
        }
        // "0.00.007.521 I srv    load_model: loading model '…'" to "0.00.773.850 I srv  llama_server: model loaded"
        // ("srv          init: model loaded" where the server runs inside Python, by xllamacpp).
        if line.contains("load_model: loading model") {
            self.llama_began_ms = llama_clock(line);
        } else if line.contains("llama_server: model loaded") || line.contains(" init: model loaded") {
            let took = llama_clock(line)
                .zip(self.llama_began_ms.take())
                .and_then(|(end, began)| end.checked_sub(began));
            self.load_ms = took.or(self.load_ms);
        }
    }

    /// `msg="model weights" device=CUDA0 size="4.1 GiB"` of Ollama's own engine, and how long its runner took to start.
    fn ollama(&mut self, line: &str) {
        for (what, kind) in [
            ("msg=\"model weights\"", Kind::Weights),
            ("msg=\"kv cache\"", Kind::KvCache),
            ("msg=\"compute graph\"", Kind::Compute),
        ] {
            if let Some(rest) = after(line, what) {
                let place = after(rest, "device=").and_then(|r| r.split(' ').next());
                let bytes = after(rest, "size=\"").and_then(size);
                if let Some(place) = place {
                    self.set(kind, place, bytes);
                }
                return;
            }
        }
        if let Some(rest) = after(line, "msg=\"llama runner started in ") {
            self.load_ms = seconds(rest).or(self.load_ms);
        }
    }

    /// The first figure of a new load.
    fn begun(&mut self) {
        if std::mem::take(&mut self.anew) {
            *self = Self::default();
        }
    }

    fn add(&mut self, kind: Kind, place: &str, bytes: Option<u64>) {
        let Some(bytes) = bytes else { return };
        self.begun();
        let sum = self.of(kind).entry(place.to_owned()).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// For lines that tell a place's whole.
    fn set(&mut self, kind: Kind, place: &str, bytes: Option<u64>) {
        let Some(bytes) = bytes else { return };
        self.begun();
        self.of(kind).insert(place.to_owned(), bytes);
    }

    fn of(&mut self, kind: Kind) -> &mut ByPlace {
        match kind {
            Kind::Weights => &mut self.weights,
            Kind::KvCache => &mut self.kv_cache,
            Kind::Compute => &mut self.compute,
        }
    }

    /// Ranks load side by side: the slowest counts.
    fn took(&mut self, ms: Option<u64>) {
        self.load_ms = self.load_ms.max(ms);
    }

    fn figures(self) -> LoadFigures {
        let places: BTreeSet<&String> = [&self.weights, &self.kv_cache, &self.compute]
            .into_iter()
            .flat_map(BTreeMap::keys)
            .collect();
        let on_host = !places.is_empty() && places.iter().all(|place| is_host(place));
        let counts = |place: &str| on_host || !is_host(place);
        let sum = |of: &ByPlace| {
            of.iter()
                .filter(|(place, _)| counts(place))
                .map(|(_, bytes)| *bytes)
                .reduce(u64::saturating_add)
        };
        LoadFigures {
            weights_bytes: sum(&self.weights),
            kv_cache_bytes: sum(&self.kv_cache),
            kv_cache_tokens: self.kv_cache_tokens,
            compute_bytes: sum(&self.compute),
            load_ms: self.load_ms,
            devices: self.weights.keys().filter(|place| counts(place)).count() as u32,
            on_host,
        }
    }
}

/// Whether a buffer lies in the host's memory: `CPU`, `CPU_Mapped`, `CPU_REPACK`, `CUDA_Host`.
fn is_host(place: &str) -> bool {
    place.starts_with("CPU") || place.ends_with("_Host")
}

const GIB: f64 = (1_u64 << 30) as f64;

/// What follows a text's first occurrence.
fn after<'a>(line: &'a str, text: &str) -> Option<&'a str> {
    line.split_once(text).map(|(_, rest)| rest)
}

/// The leading decimal number, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

fn bytes(amount: f64, unit: f64) -> Option<u64> {
    let bytes = (amount * unit).round();
    // Larger than any machine's memory: not what it looks like.
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// `13.03 GiB…`, `78.75 MiB`, `0 B`.
fn size(text: &str) -> Option<u64> {
    let (amount, rest) = number(text)?;
    let unit: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    let unit = match unit.as_str() {
        "B" => 1.0,
        "KiB" | "KB" => 1024.0,
        "MiB" | "MB" => 1024.0 * 1024.0,
        "GiB" | "GB" => GIB,
        "TiB" | "TB" => 1024.0 * GIB,
        _ => return None,
    };
    bytes(amount, unit)
}

/// `2.626892 seconds`, `0.88 s`: milliseconds.
fn seconds(text: &str) -> Option<u64> {
    let (amount, rest) = number(text)?;
    rest.trim_start().starts_with('s').then_some(())?;
    bytes(amount, 1e3)
}

/// `1,104,105 tokens`, `391327, chunked…`.
fn count(text: &str) -> Option<u64> {
    let mut digits = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '0'..='9' => digits.push(c),
            ',' if chars.peek().is_some_and(char::is_ascii_digit) => {}
            _ => break,
        }
    }
    digits.parse().ok()
}

/// The process that wrote a line of vLLM: `(EngineCore pid=1252)`, `(Worker_TP1 pid=…)`; empty where none is named.
fn process(line: &str) -> &str {
    after(line, "(")
        .and_then(|rest| rest.split_once(" pid="))
        .map_or("", |(name, _)| name)
}

/// The rank that wrote a line of SGLang: `[2026-11-24 12:37:52 TP1]`; empty where there is one only.
fn rank(line: &str) -> &str {
    after(line, "[")
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(stamp, _)| stamp.splitn(3, ' ').nth(2))
        .unwrap_or("")
}

/// llama-server's own clock, `0.00.773.850`: minutes, seconds, milliseconds, microseconds.
fn llama_clock(line: &str) -> Option<u64> {
    line.split(' ').take(5).find_map(|word| {
        let parts: Vec<u64> = word.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        match parts.as_slice() {
            &[minutes, seconds, millis, _] => minutes
                .checked_mul(60_000)?
                .checked_add(seconds.checked_mul(1000)?)?
                .checked_add(millis),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests;
