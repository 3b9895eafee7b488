//! What servers write into their logs of how they loaded: the figures, collected line by line. Which line tells what
//! stands in each framework's file.
//!
//! All servers count in powers of two, whatever they call it: vLLM and SGLang divide by 2^30 and write `GiB` or `GB`.

use std::collections::{BTreeMap, BTreeSet};

use benchd_core::record::{Format, LoadFigures, Precision, Reading};

/// Bytes by device or rank.
type ByDevice = BTreeMap<String, u64>;

/// The figures of a server's newest load, as far as its log has told them.
#[derive(Debug, Default)]
pub(crate) struct LoadLog {
    weights: ByDevice,
    kv_cache: ByDevice,
    compute: ByDevice,
    kv_cache_tokens: Option<u64>,
    load_ms: Option<u64>,
    /// A new load was announced: its first figure clears those of the load before.
    anew: bool,
    /// When the load began, milliseconds by the server's own clock.
    began_ms: Option<u64>,
    precision: Precision,
}

/// What said a precision that stands in the log.
const LOG: &str = "the server's log";

/// What a figure is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Weights,
    KvCache,
    Compute,
}

impl LoadLog {
    /// The server loads again, or may: what was told holds until it tells a figure anew.
    pub(crate) fn announced(&mut self) {
        self.anew = true;
    }

    /// The first figure of a new load.
    fn begun(&mut self) {
        if std::mem::take(&mut self.anew) {
            // The lines on precision come before those with figures.
            *self = Self {
                precision: std::mem::take(&mut self.precision),
                ..Self::default()
            };
        }
    }

    /// For lines of which a device or rank has several.
    pub(crate) fn add(&mut self, part: Part, device: &str, bytes: Option<u64>) {
        let Some(bytes) = bytes else { return };
        self.begun();
        let sum = self.of(part).entry(device.to_owned()).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// For lines that tell a device's whole.
    pub(crate) fn set(&mut self, part: Part, device: &str, bytes: Option<u64>) {
        let Some(bytes) = bytes else { return };
        self.begun();
        self.of(part).insert(device.to_owned(), bytes);
    }

    fn of(&mut self, part: Part) -> &mut ByDevice {
        match part {
            Part::Weights => &mut self.weights,
            Part::KvCache => &mut self.kv_cache,
            Part::Compute => &mut self.compute,
        }
    }

    /// Tokens of the KV cache; the last that is told counts.
    pub(crate) fn tokens(&mut self, tokens: Option<u64>) {
        self.kv_cache_tokens = tokens.or(self.kv_cache_tokens);
    }

    /// The same where a model with sliding windows has a second cache: the first holds the whole context.
    pub(crate) fn first_tokens(&mut self, tokens: Option<u64>) {
        if tokens.is_some() {
            self.begun();
        }
        self.kv_cache_tokens = self.kv_cache_tokens.or(tokens);
    }

    /// How long the load took; the last that is told counts.
    pub(crate) fn took(&mut self, ms: Option<u64>) {
        self.load_ms = ms.or(self.load_ms);
    }

    /// The same where each rank tells its own: they load side by side, and the slowest counts.
    pub(crate) fn slowest(&mut self, ms: Option<u64>) {
        self.load_ms = self.load_ms.max(ms);
    }

    /// The load began, by the server's own clock.
    pub(crate) fn began(&mut self, at_ms: Option<u64>) {
        self.began_ms = at_ms;
    }

    /// It ended.
    pub(crate) fn ended(&mut self, at_ms: Option<u64>) {
        let times = at_ms.zip(self.began_ms.take());
        self.took(times.and_then(|(end, began)| end.checked_sub(began)));
    }

    /// The format of the weights; the last that is told counts, here and below.
    pub(crate) fn weights_in(&mut self, format: &str) {
        self.precision.weights = Reading::read(Format::new(format), LOG);
    }

    /// The format of the KV cache.
    pub(crate) fn cache_in(&mut self, format: &str) {
        self.precision.kv_cache = Reading::read(Format::new(format), LOG);
    }

    /// Whether the weights are made up.
    pub(crate) fn made_up(&mut self, random: bool) {
        self.precision.random_weights = Reading::read(random, LOG);
    }

    /// In which numbers the model is served, by the log.
    pub(crate) fn precision(self) -> Precision {
        self.precision
    }

    pub(crate) fn figures(self) -> LoadFigures {
        let devices: BTreeSet<&String> = [&self.weights, &self.kv_cache, &self.compute]
            .into_iter()
            .flat_map(BTreeMap::keys)
            .collect();
        let on_host = !devices.is_empty() && devices.iter().all(|device| is_host(device));
        let counts = |device: &str| on_host || !is_host(device);
        let sum = |of: &ByDevice| {
            of.iter()
                .filter(|(device, _)| counts(device))
                .map(|(_, bytes)| *bytes)
                .reduce(u64::saturating_add)
        };
        LoadFigures {
            weights_bytes: sum(&self.weights),
            kv_cache_bytes: sum(&self.kv_cache),
            kv_cache_tokens: self.kv_cache_tokens,
            compute_bytes: sum(&self.compute),
            load_ms: self.load_ms,
            devices: self.weights.keys().filter(|device| counts(device)).count() as u32,
            on_host,
        }
    }
}

/// Whether a buffer lies in the host's memory: `CPU`, `CPU_Mapped`, `CPU_REPACK`, `CUDA_Host`.
fn is_host(device: &str) -> bool {
    device.starts_with("CPU") || device.ends_with("_Host")
}

pub(crate) const GIB: f64 = (1_u64 << 30) as f64;

/// What follows a text's first occurrence.
pub(crate) fn after<'a>(line: &'a str, text: &str) -> Option<&'a str> {
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

pub(crate) fn bytes(amount: f64, unit: f64) -> Option<u64> {
    let bytes = (amount * unit).round();
    // Larger than any machine's memory: not what it looks like.
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// `13.03 GiB…`, `78.75 MiB`, `0 B`.
pub(crate) fn size(text: &str) -> Option<u64> {
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
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (amount, rest) = number(text)?;
    rest.trim_start().starts_with('s').then_some(())?;
    bytes(amount, 1e3)
}

/// `1,104,105 tokens`, `391327, chunked…`.
pub(crate) fn count(text: &str) -> Option<u64> {
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

#[cfg(test)]
mod tests;
