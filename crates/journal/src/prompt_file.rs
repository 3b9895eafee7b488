//! `prompts.jsonl`: the prompts of a run, found again by their ids.

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

/// `prompts.jsonl`: every prompt of the run, frozen, so that a resumed run sends the same. Keeps the ids in
/// memory, not the texts.
#[derive(Debug)]
pub struct PromptFile<T> {
    lines: LineFile<T>,
    path: PathBuf,
    id_of: fn(&T) -> &str,
    /// Offset and bytes of each prompt's line.
    line_of: HashMap<String, (u64, u64)>,
}

impl<T: Serialize + DeserializeOwned> PromptFile<T> {
    /// Opens or makes the file. A torn last line is cut and told.
    ///
    /// # Errors
    /// A call on the file failed, or a line is no prompt.
    pub fn open(path: &Path, id_of: fn(&T) -> &str) -> Result<(Self, Option<TornTail>), DiskError> {
        let (lines, torn) = LineFile::open_append(path)?;
        let mut line_of = HashMap::new();
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
            line_of.insert(id_of(&prompt).to_owned(), (at, n));
            at += n;
        }
        let this = Self {
            lines,
            path: path.to_owned(),
            id_of,
            line_of,
        };
        Ok((this, torn))
    }

    /// Freezes a prompt. `false` where its id is frozen already: the first text stays.
    pub fn append(&mut self, prompt: &T) -> Result<bool, DiskError> {
        let id = (self.id_of)(prompt);
        if self.line_of.contains_key(id) {
            return Ok(false);
        }
        let start = self.lines.position();
        self.lines.append(prompt)?;
        self.line_of
            .insert(id.to_owned(), (start, self.lines.position() - start));
        Ok(true)
    }

    /// Whether a prompt of this id is in the file.
    pub fn contains(&self, id: &str) -> bool {
        self.line_of.contains_key(id)
    }

    /// How many prompts are in the file.
    pub fn len(&self) -> usize {
        self.line_of.len()
    }

    /// Whether the file holds no prompt.
    pub fn is_empty(&self) -> bool {
        self.line_of.is_empty()
    }

    /// The frozen prompt of this id, read back from the file.
    pub fn get(&self, id: &str) -> Result<Option<T>, DiskError> {
        let Some(&(offset, bytes)) = self.line_of.get(id) else {
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
