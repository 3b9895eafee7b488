//! In which numbers a model is served, and what said so.

use serde::{Deserialize, Serialize};

/// In which numbers a server keeps a model. Each part is read from something that says it (an argument, a file's header,
/// the server's own words), never guessed; what nothing says is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Precision {
    /// The weights, as they lie in memory: `bf16`, `mxfp4`, `q4_k_m`. Of mixed ones the most, by size.
    #[serde(default)]
    pub weights: Reading<Format>,
    /// The KV cache: `bf16`, `fp8`, `q8_0`.
    #[serde(default)]
    pub kv_cache: Reading<Format>,
    /// Whether the server made its weights up (`--load-format dummy`): answers then mean nothing.
    #[serde(default)]
    pub random_weights: Reading<bool>,
    /// Bytes of the weights on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
}

/// Something that was read, with what said it, or that nothing says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReadingOf_{T}")]
pub enum Reading<T> {
    /// Nothing says it.
    #[default]
    Unknown,
    /// It was read.
    Read {
        /// What it is.
        value: T,
        /// What said so, for people: `--dtype`, `config.json`, `GGUF header`, `/api/show`, `the server's log`.
        from: String,
    },
}

impl<T> Reading<T> {
    /// Read from `from`.
    pub fn read(value: T, from: impl Into<String>) -> Self {
        Self::Read {
            value,
            from: from.into(),
        }
    }

    /// Read from `from`, where there is something.
    pub fn maybe(value: Option<T>, from: impl Into<String>) -> Self {
        value.map_or(Self::Unknown, |value| Self::read(value, from))
    }

    /// What was read.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Unknown => None,
            Self::Read { value, .. } => Some(value),
        }
    }

    /// What said it.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Read { from, .. } => Some(from),
        }
    }

    /// This, or the other where this is unknown.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Unknown => other,
            read @ Self::Read { .. } => read,
        }
    }
}

impl Precision {
    /// Part by part: this, or the other where this is unknown.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            weights: self.weights.or(other.weights),
            kv_cache: self.kv_cache.or(other.kv_cache),
            random_weights: self.random_weights.or(other.random_weights),
            file_bytes: self.file_bytes.or(other.file_bytes),
        }
    }
}

/// The name of a number format, in one spelling: `bf16` for `torch.bfloat16`, `q4_k_m` for `Q4_K_M`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Format(String);

impl Format {
    /// The format of this name, however it is spelt.
    pub fn new(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase().replace('-', "_");
        let name = name.strip_prefix("torch.").unwrap_or(&name);
        Self(
            match name {
                "bfloat16" => "bf16",
                "float16" | "half" | "f16" => "fp16",
                "float32" | "float" | "f32" => "fp32",
                "float8_e4m3fn" => "fp8_e4m3",
                "float8_e5m2" => "fp8_e5m2",
                other => other,
            }
            .to_owned(),
        )
    }

    /// The name in its one spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bits of one number, where the name says so; what blocks keep beside them (scales) is left out.
    pub fn bits(&self) -> Option<u32> {
        let name = self.0.as_str();
        let among = |names: &[&str]| names.iter().any(|part| name.contains(part));
        if let Some(quantised) = self.ggml_digits() {
            return quantised.chars().next()?.to_digit(10);
        }
        if among(&["fp4", "int4"]) || matches!(name, "awq" | "awq_marlin") {
            Some(4)
        } else if among(&["fp8", "int8"]) {
            Some(8)
        } else if matches!(name, "bf16" | "fp16") {
            Some(16)
        } else if name == "fp32" {
            Some(32)
        } else {
            None
        }
    }

    /// Whether figures of the two compare: one format, or two of 16-bit floats, which take the same memory and time.
    pub fn is_like(&self, other: &Self) -> bool {
        let float16 = |format: &Self| matches!(format.0.as_str(), "bf16" | "fp16");
        self == other || (float16(self) && float16(other))
    }

    /// What follows the letters of a quantisation of ggml's: `4_k_m` of `q4_k_m`, `4_xs` of `iq4_xs`.
    fn ggml_digits(&self) -> Option<&str> {
        let rest = ["iq", "tq", "q"]
            .iter()
            .find_map(|letters| self.0.strip_prefix(letters))?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
    }
}

/// As people write it: `bf16`, `Q4_K_M`, `MXFP4`.
impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ggml_digits().is_some() || self.0.starts_with("mxfp") || self.0.starts_with("nvfp") {
            f.write_str(&self.0.to_ascii_uppercase())
        } else {
            f.write_str(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_format_are_one() {
        let same = |a: &str, b: &str| Format::new(a) == Format::new(b);
        assert!(same("bfloat16", "BF16") && same("torch.bfloat16", "bf16"));
        assert!(same("F16", "fp16") && same("half", "float16"));
        assert!(same("q4-k-m", "Q4_K_M"));
        assert!(!same("q4_k_m", "q4_k_s") && !same("bf16", "fp16"));
    }

    #[test]
    fn a_name_tells_bits_and_is_shown_as_people_write_it() {
        let told = [
            "bf16",
            "FP8",
            "q4_k_m",
            "Q4_1",
            "iq4_xs",
            "q8_0",
            "mxfp4",
            "awq_int4",
            "float",
            "f32?",
            "quantised",
        ]
        .map(|name| (Format::new(name).to_string(), Format::new(name).bits()));
        let told: Vec<_> = told.iter().map(|(name, bits)| (name.as_str(), *bits)).collect();
        assert_eq!(
            told,
            [
                ("bf16", Some(16)),
                ("fp8", Some(8)),
                ("Q4_K_M", Some(4)),
                ("Q4_1", Some(4)),
                ("IQ4_XS", Some(4)),
                ("Q8_0", Some(8)),
                ("MXFP4", Some(4)),
                ("awq_int4", Some(4)),
                ("fp32", Some(32)),
                ("f32?", None),
                ("quantised", None),
            ]
        );
    }

    #[test]
    fn only_what_takes_the_same_memory_compares() {
        let like = |a: &str, b: &str| Format::new(a).is_like(&Format::new(b));
        assert!(like("bf16", "fp16") && like("mxfp4", "MXFP4"));
        assert!(!like("bf16", "q4_0") && !like("q4_0", "mxfp4") && !like("bf16", "fp32"));
    }

    #[test]
    fn what_nothing_says_is_a_state_of_its_own() {
        let told = Precision {
            weights: Reading::read(Format::new("Q4_0"), "GGUF header"),
            ..Precision::default()
        };
        assert_eq!(
            serde_json::to_string(&told).unwrap(),
            r#"{"weights":{"read":{"value":"q4_0","from":"GGUF header"}},"kv_cache":"unknown","random_weights":"unknown"}"#
        );
        let again: Precision = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(again, told);
        let other = Precision {
            weights: Reading::read(Format::new("bf16"), "--dtype"),
            random_weights: Reading::read(true, "--load-format"),
            ..Precision::default()
        };
        let both = told.or(other);
        assert_eq!(both.weights.from(), Some("GGUF header"));
        assert_eq!(both.random_weights.value(), Some(&true));
    }
}
