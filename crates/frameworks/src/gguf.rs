//! The header of a GGUF file: which tensors lie in it, in which formats, and how long the file must be for them. By the
//! format's specification (versions 2 and 3) and the constants of gguf-py; the weights themselves are never read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek},
    path::Path,
};

use benchd_core::record::{Format, Reading};

/// Most entries of the metadata, and most tensors, that a header is believed to have.
const MOST_ENTRIES: u64 = 1 << 20;
/// Longest name of a key or a tensor, bytes (the specification allows 65,535).
const LONGEST_NAME: u64 = 1 << 16;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: u32 = 8;
/// Where the specification aligns the tensors' data, bytes, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;

/// Formats of tensors: id, name, numbers in a block, bytes of a block.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

/// What `general.file_type` adds to the tensors' own format: which of them are kept in more bits.
const MIXES: &[(u64, &str)] = &[
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (21, "Q2_K_S"),
];

/// The tables of tokens: often kept in more bits than the layers, and in a small model most of the file.
const TOKEN_TABLES: [&str; 3] = [
    "token_embd.weight",
    "output.weight",
    "per_layer_token_embd.weight",
];

/// What a header tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// `general.file_type`.
    file_type: Option<u64>,
    /// Bytes by format, all tensors.
    all: BTreeMap<u32, u64>,
    /// Bytes by format, without the tables of tokens.
    layers: BTreeMap<u32, u64>,
    /// Bytes that the file must have; `None` where a tensor is of a format whose size is not known.
    expected_bytes: Option<u64>,
}

/// Reads the header of the file at `path`.
///
/// # Errors
/// What is wrong with it, for people: `is cut: …`, `is no GGUF file`.
pub(crate) fn read(path: &Path) -> Result<Header, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let header = parse(&mut Source {
        from: BufReader::new(file),
        at: 0,
        bytes,
    })?;
    match header.expected_bytes {
        Some(expected) if bytes < expected => Err(format!("is cut: {bytes} of {expected} bytes")),
        _ => Ok(header),
    }
}

impl Header {
    /// The format of most of the layers, by size, with the shares of all formats as what said so.
    pub(crate) fn weights(&self) -> Reading<Format> {
        let of = if self.layers.is_empty() {
            &self.all
        } else {
            &self.layers
        };
        let Some((most, _)) = of.iter().max_by_key(|(_, bytes)| **bytes) else {
            return Reading::Unknown;
        };
        let name = name(*most);
        let mix = self
            .file_type
            .and_then(|told| MIXES.iter().find(|(id, _)| *id == told))
            .map(|(_, mix)| (*mix).to_owned())
            .filter(|mix| mix.starts_with(&name));
        Reading::read(
            Format::new(&mix.unwrap_or(name)),
            format!("GGUF header: {}", self.shares()),
        )
    }

    /// `Q4_0 93 %, Q8_0 7 %`: formats by size, those below half a percent left out.
    fn shares(&self) -> String {
        let total = self.all.values().sum::<u64>().max(1) as f64;
        let mut shares: Vec<(f64, String)> = self
            .all
            .iter()
            .map(|(id, bytes)| (100.0 * *bytes as f64 / total, name(*id)))
            .filter(|(share, _)| *share >= 0.5)
            .collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let said: Vec<String> = shares
            .into_iter()
            .map(|(share, name)| format!("{name} {share:.0} %"))
            .collect();
        said.join(", ")
    }
}

fn name(id: u32) -> String {
    TYPES
        .iter()
        .find(|(known, ..)| *known == id)
        .map_or_else(|| format!("format {id}"), |(_, name, ..)| (*name).to_owned())
}

/// Bytes of so many numbers.
fn size(id: u32, numbers: u64) -> Option<u64> {
    let (.., block, bytes) = TYPES.iter().find(|(known, ..)| *known == id)?;
    numbers.div_ceil(*block).checked_mul(*bytes)
}

/// A file that is read from its start.
struct Source<R> {
    from: BufReader<R>,
    at: u64,
    /// Length of the file.
    bytes: u64,
}

impl<R: Read + Seek> Source<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.from
            .read_exact(&mut bytes)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => format!("is cut: {} bytes end within its header", self.bytes),
                _ => format!("can't be read: {error}"),
            })?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count, or a length, of no more than `most`.
    fn count(&mut self, most: u64) -> Result<u64, String> {
        self.u64()
            .and_then(|n| if n <= most { Ok(n) } else { Err(damaged()) })
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        let by = i64::try_from(bytes).map_err(|_| damaged())?;
        if bytes > self.bytes.saturating_sub(self.at) {
            return Err(format!("is cut: {} bytes end within its header", self.bytes));
        }
        self.from
            .seek_relative(by)
            .map_err(|error| format!("can't be read: {error}"))?;
        self.at += bytes;
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        let length = self.count(LONGEST_NAME)?;
        let mut text = Vec::new();
        let read = (&mut self.from)
            .take(length)
            .read_to_end(&mut text)
            .map_err(|error| format!("can't be read: {error}"))?;
        if (read as u64) < length {
            return Err(format!("is cut: {} bytes end within its header", self.bytes));
        }
        self.at += length;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A value of the metadata: the whole number that it is, nothing of any other.
    fn value(&mut self, kind: u32) -> Result<Option<u64>, String> {
        Ok(match kind {
            0 => Some(u64::from(self.array::<1>()?[0])),
            2 => Some(u64::from(u16::from_le_bytes(self.array()?))),
            4 => Some(u64::from(self.u32()?)),
            10 => Some(self.u64()?),
            // An array: the kind of its items, their number.
            9 => {
                let of = self.u32()?;
                let items = self.u64()?;
                if let Some(bytes) = width(of) {
                    self.skip(items.checked_mul(bytes).ok_or_else(damaged)?)?;
                } else if of == 8 {
                    for _ in 0..items {
                        let length = self.u64()?;
                        self.skip(length)?;
                    }
                } else {
                    return Err(damaged());
                }
                None
            }
            8 => {
                let length = self.u64()?;
                self.skip(length)?;
                None
            }
            other => {
                self.skip(width(other).ok_or_else(damaged)?)?;
                None
            }
        })
    }
}

/// Bytes of a value of a fixed size: numbers and booleans.
fn width(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn damaged() -> String {
    "has a damaged header".to_owned()
}

fn parse<R: Read + Seek>(source: &mut Source<R>) -> Result<Header, String> {
    if source.bytes < 4 {
        return Err("is cut or empty".to_owned());
    }
    match &source.array::<4>()? {
        b"GGUF" => {}
        b"vers" => return Err("is a Git LFS pointer, not the weights".to_owned()),
        _ => return Err("is no GGUF file".to_owned()),
    }
    let version = source.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!(
            "is a GGUF of version {version}; 2 and 3, little-endian, are read"
        ));
    }
    let tensors = source.count(MOST_ENTRIES)?;
    let entries = source.count(MOST_ENTRIES)?;
    let mut header = Header::default();
    let mut alignment = ALIGNMENT;
    for _ in 0..entries {
        let key = source.name()?;
        let kind = source.u32()?;
        let value = source.value(kind)?;
        match key.as_str() {
            "general.file_type" => header.file_type = value,
            "general.alignment" => alignment = value.filter(|n| *n > 0).ok_or_else(damaged)?,
            _ => {}
        }
    }
    let mut end = Some(0_u64);
    for _ in 0..tensors {
        let name = source.name()?;
        let dimensions = source.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(damaged());
        }
        let mut numbers = 1_u64;
        for _ in 0..dimensions {
            numbers = numbers.checked_mul(source.u64()?).ok_or_else(damaged)?;
        }
        let id = source.u32()?;
        let offset = source.u64()?;
        let bytes = size(id, numbers);
        end = end
            .zip(bytes)
            .and_then(|(end, bytes)| Some(end.max(offset.checked_add(bytes)?)));
        // A format whose blocks are not known: as if a number took a byte.
        let bytes = bytes.unwrap_or(numbers);
        let add = |of: &mut BTreeMap<u32, u64>| {
            let sum = of.entry(id).or_default();
            *sum = sum.saturating_add(bytes);
        };
        add(&mut header.all);
        // Norms and biases have one dimension, and say nothing.
        if dimensions > 1 && !TOKEN_TABLES.contains(&name.as_str()) {
            add(&mut header.layers);
        }
    }
    let data = source
        .at
        .checked_next_multiple_of(alignment)
        .ok_or_else(damaged)?;
    header.expected_bytes = end.and_then(|end| data.checked_add(end));
    Ok(header)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A GGUF whose tensors have these names, formats and shapes, with data of zeros.
    pub(crate) fn gguf(file_type: u32, tensors: &[(&str, u32, &[u64])]) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.bytes());
        };
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend(3_u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8_u32.to_le_bytes());
        text(&mut out, "llama");
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend(9_u32.to_le_bytes());
        out.extend(8_u32.to_le_bytes());
        out.extend(2_u64.to_le_bytes());
        text(&mut out, "<s>");
        text(&mut out, "가");
        text(&mut out, "general.file_type");
        out.extend(4_u32.to_le_bytes());
        out.extend(file_type.to_le_bytes());
        let mut data = 0_u64;
        for (name, id, shape) in tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(id.to_le_bytes());
            out.extend(data.to_le_bytes());
            data += size(*id, shape.iter().product())
                .unwrap_or(0)
                .next_multiple_of(ALIGNMENT);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize) + data as usize, 0);
        out
    }

    fn read_bytes(bytes: &[u8]) -> Result<Header, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn the_layers_by_size_say_the_format_and_the_file_type_says_the_mix() {
        // As SmolLM2-135M's Q4_1: its table of tokens has eight bits.
        let q4_1 = gguf(
            3,
            &[
                ("token_embd.weight", 8, &[64, 1024]),
                ("blk.0.attn_norm.weight", 0, &[64]),
                ("blk.0.attn_q.weight", 3, &[64, 64]),
                ("blk.0.ffn_up.weight", 3, &[64, 256]),
            ],
        );
        let told = read_bytes(&q4_1).unwrap().weights();
        assert_eq!(told.value().map(Format::as_str), Some("q4_1"));
        assert_eq!(told.from(), Some("GGUF header: Q8_0 84 %, Q4_1 15 %"));

        let tensors: &[(&str, u32, &[u64])] = &[
            ("blk.0.attn_q.weight", 12, &[256, 256]),
            ("blk.0.attn_v.weight", 14, &[256, 64]),
        ];
        let mixed = |file_type| {
            read_bytes(&gguf(file_type, tensors))
                .unwrap()
                .weights()
                .value()
                .cloned()
        };
        assert_eq!(mixed(15), Some(Format::new("Q4_K_M")));
        // A file type that its tensors don't bear out.
        assert_eq!(mixed(17), Some(Format::new("Q4_K")));
        let experts: &[(&str, u32, &[u64])] = &[
            ("blk.0.ffn_up_exps.weight", 39, &[64, 64, 4]),
            ("blk.0.attn_q.weight", 30, &[64, 64]),
        ];
        let gpt_oss = read_bytes(&gguf(38, experts)).unwrap();
        assert_eq!(gpt_oss.weights().value(), Some(&Format::new("mxfp4")));
    }

    #[test]
    fn a_format_that_came_later_is_named_by_its_number() {
        let header = read_bytes(&gguf(99, &[("blk.0.attn_q.weight", 77, &[64, 64])])).unwrap();
        assert_eq!(header.expected_bytes, None);
        assert_eq!(header.weights().value(), Some(&Format::new("format 77")));
        assert_eq!(read_bytes(&gguf(0, &[])).unwrap().weights(), Reading::Unknown);
    }

    #[test]
    fn a_cut_or_damaged_file_is_named_for_what_it_is() {
        let whole = gguf(2, &[("blk.0.attn_q.weight", 2, &[64, 64])]);
        assert!(read_bytes(&whole).is_ok());
        for cut in [5, 20, 60, 120, whole.len() - 1] {
            let why = read_bytes(&whole[..cut]).unwrap_err();
            assert!(why.starts_with("is cut"), "{cut}: {why}");
        }
        for (bytes, why) in [
            (&b""[..], "is cut or empty"),
            (b"PK..", "is no GGUF file"),
            (
                b"version https://git-lfs",
                "is a Git LFS pointer, not the weights",
            ),
        ] {
            assert_eq!(read_bytes(bytes).unwrap_err(), why);
        }
        let mut older = whole.clone();
        older[4] = 1;
        assert!(read_bytes(&older).unwrap_err().contains("version 1"));
        // Lengths that no file has end in words, never in a panic or in memory that is not there.
        for at in 8..whole.len().min(200) {
            let mut wrong = whole.clone();
            wrong[at..(at + 8).min(whole.len())].fill(0xff);
            let _ = read_bytes(&wrong);
        }
    }
}
