//! The other append-only files of a run: requests, GPU samples, prompts.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::DiskError,
    line_file::{LineFile, TornTail},
};
use benchd_core::record::{GpuSample, RequestRecord};

/// `requests.jsonl` of a lane.
#[derive(Debug)]
pub struct RecordFile(LineFile);

impl RecordFile {
    /// Opens or makes the file and its folder. A torn last line is cut and told.
    pub fn open_append(path: &Path) -> Result<(Self, Option<TornTail>), DiskError> {
        LineFile::open_append(path).map(|(file, torn)| (Self(file), torn))
    }

    /// Appends one record; it outlives this process, not a power loss ([`Self::sync`]).
    pub fn append(&mut self, record: &RequestRecord) -> Result<(), DiskError> {
        self.0.append(record)
    }

    /// Where the next record starts: the `offset` of a cell's end event when taken before its first request.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Brings all records to the disk; returns the end offset. Comes before a cell's end event.
    pub fn sync(&self) -> Result<u64, DiskError> {
        self.0.sync()
    }
}

/// `gpu.jsonl` of a lane. Never synced line by line: a power loss may cost the last seconds of samples.
#[derive(Debug)]
pub struct GpuFile(LineFile);

impl GpuFile {
    /// Opens or makes the file and its folder. A torn last line is cut and told.
    pub fn open_append(path: &Path) -> Result<(Self, Option<TornTail>), DiskError> {
        LineFile::open_append(path).map(|(file, torn)| (Self(file), torn))
    }

    /// Appends one sample.
    pub fn append(&mut self, sample: &GpuSample) -> Result<(), DiskError> {
        self.0.append(sample)
    }

    /// Brings all samples to the disk (once a cell is enough).
    pub fn sync(&self) -> Result<u64, DiskError> {
        self.0.sync()
    }
}

/// `prompts.jsonl`: every prompt of the run, frozen, so that a resumed run sends the same. Keeps the ids in
/// memory, not the texts.
#[derive(Debug)]
pub struct PromptFile<T> {
    lines: LineFile,
    path: PathBuf,
    id_of: fn(&T) -> &str,
    /// Offset and bytes of each prompt's line.
    places: HashMap<String, (u64, u64)>,
}

impl<T: Serialize + DeserializeOwned> PromptFile<T> {
    /// Opens or makes the file. A torn last line is cut and told; a line that is no prompt is an error.
    pub fn open(path: &Path, id_of: fn(&T) -> &str) -> Result<(Self, Option<TornTail>), DiskError> {
        let (lines, torn) = LineFile::open_append(path)?;
        let mut places = HashMap::new();
        let file = File::open(path).map_err(|e| DiskError::new("open", path, e))?;
        let mut reader = BufReader::new(file);
        let (mut at, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let n = reader
                .read_until(b'\n', &mut line)
                .map_err(|e| DiskError::new("read", path, e))? as u64;
            if n == 0 {
                break;
            }
            let prompt: T = serde_json::from_slice(&line)
                .map_err(|e| DiskError::new("read a prompt of", path, e.into()))?;
            places.insert(id_of(&prompt).to_owned(), (at, n));
            at += n;
        }
        let this = Self {
            lines,
            path: path.to_owned(),
            id_of,
            places,
        };
        Ok((this, torn))
    }

    /// Freezes a prompt. `false` where its id is frozen already: the first text stays.
    pub fn append(&mut self, prompt: &T) -> Result<bool, DiskError> {
        let id = (self.id_of)(prompt);
        if self.places.contains_key(id) {
            return Ok(false);
        }
        let start = self.lines.position();
        self.lines.append(prompt)?;
        self.places
            .insert(id.to_owned(), (start, self.lines.position() - start));
        Ok(true)
    }

    /// Whether this id is frozen.
    pub fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// How many prompts are frozen.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The frozen prompt of this id, read back from the file.
    pub fn get(&self, id: &str) -> Result<Option<T>, DiskError> {
        let Some(&(offset, bytes)) = self.places.get(id) else {
            return Ok(None);
        };
        let fail = |e| DiskError::new("read a prompt of", &self.path, e);
        let mut file = File::open(&self.path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut line = Vec::new();
        file.take(bytes).read_to_end(&mut line).map_err(fail)?;
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|e| fail(e.into()))
    }

    /// Brings all prompts to the disk. Comes before the first request that uses them.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.lines.sync().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Frozen {
        id: String,
        text: String,
    }

    fn frozen(id: &str, text: &str) -> Frozen {
        Frozen {
            id: id.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn prompts_are_frozen_once_and_come_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("prompts.jsonl");
        let (mut file, _) = PromptFile::<Frozen>::open(&path, |p| &p.id).expect("open");
        assert!(file.append(&frozen("a", "안녕하세요\n둘째 줄")).expect("append"));
        assert!(file.append(&frozen("b", "two")).expect("append"));
        assert!(!file.append(&frozen("a", "another text")).expect("append"));
        file.sync().expect("sync");
        drop(file);

        let (file, torn) = PromptFile::<Frozen>::open(&path, |p| &p.id).expect("open");
        assert_eq!((file.len(), torn), (2, None));
        assert_eq!(
            file.get("a").expect("get"),
            Some(frozen("a", "안녕하세요\n둘째 줄"))
        );
        assert_eq!(file.get("b").expect("get"), Some(frozen("b", "two")));
        assert_eq!(file.get("c").expect("get"), None);
    }

    #[test]
    fn a_damaged_prompt_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("prompts.jsonl");
        std::fs::write(&path, "{\"id\":\"a\"}\n").expect("write");
        let error = PromptFile::<Frozen>::open(&path, |p| &p.id).expect_err("a field is missing");
        assert!(error.to_string().contains("missing field `text`"), "{error}");
    }
}
