//! The texts that a run sends: sizes and identities by prompts.jsonl, lengths by calibration.json.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind},
    path::Path,
};

use serde::Deserialize;

use super::{PromptLength, PromptLengths, korean::TextSize, samples::prompt_key};
use benchd_journal::DiskError;
use benchd_prompts::{Calibration, CountSource, Fitted};

/// What this room needs of a line of prompts.jsonl.
#[derive(Deserialize)]
struct PromptLine {
    id: String,
    sha256: Option<String>,
    #[serde(default)]
    messages: Vec<MessageLine>,
}

#[derive(Deserialize)]
struct MessageLine {
    content: String,
}

/// The frozen prompts of a run.
#[derive(Debug, Default)]
pub(super) struct FrozenPrompts {
    /// By id; prompts without text are left out.
    pub(super) sizes: HashMap<String, TextSize>,
    /// [`prompt_key`] of the text's hash by that of the id: ids are alike in all runs of a plan, texts need not be.
    pub(super) texts: HashMap<u64, u64>,
}

impl FrozenPrompts {
    /// Reads them; none where there is no such file. Lines that are no prompts are noted.
    pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Self, DiskError> {
        let mut prompts = Self::default();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(prompts),
            Err(e) => return Err(DiskError::new("open", path, e)),
        };
        let (mut reader, mut line, mut number) = (BufReader::new(file), Vec::new(), 0);
        while reader
            .read_until(b'\n', &mut line)
            .map_err(|e| DiskError::new("read", path, e))?
            > 0
        {
            number += 1;
            match serde_json::from_slice::<PromptLine>(&line) {
                Ok(prompt) => prompts.add(prompt),
                Err(e) => notes.push(format!("{}:{number}: no prompt: {e}", path.display())),
            }
            line.clear();
        }
        Ok(prompts)
    }

    fn add(&mut self, prompt: PromptLine) {
        if let Some(sha256) = &prompt.sha256 {
            self.texts.insert(prompt_key(&prompt.id), prompt_key(sha256));
        }
        let sizes = prompt.messages.iter().map(|m| TextSize::of(&m.content));
        let size = sizes.fold(TextSize::default(), |a, b| a + b);
        if size.chars > 0 {
            self.sizes.insert(prompt.id, size);
        }
    }
}

/// What calibration.json says; a file that can't be read is noted, since no figure depends on it.
pub(super) fn prompt_lengths(path: &Path, notes: &mut Vec<String>) -> Vec<PromptLengths> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            notes.push(format!("calibration.json can't be read: {e}"));
            return Vec::new();
        }
    };
    let models: BTreeMap<String, Calibration> = match serde_json::from_slice(&text) {
        Ok(models) => models,
        Err(e) => {
            notes.push(format!("calibration.json can't be read: {e}"));
            return Vec::new();
        }
    };
    let of = |(model, c): (String, Calibration)| {
        let (mut lengths, mut probes) = (Vec::new(), 0);
        let mut add = |what: &str, fitted: &Fitted| {
            probes += u64::from(fitted.probes);
            lengths.push(PromptLength {
                what: what.to_owned(),
                asked: fitted.asked,
                reached: fitted.reached,
            });
        };
        c.exact.values().for_each(|f| add("prompt", f));
        c.systems.values().for_each(|f| add("system prompt", f));
        c.questions.values().flatten().for_each(|f| add("question", f));
        lengths.dedup();
        PromptLengths {
            model,
            source: match &c.source {
                CountSource::File { path, .. } => format!("tokenizer file {}", path.display()),
                CountSource::Server { framework } => format!("the usage of {framework}"),
            },
            template_user: matches!(c.source, CountSource::Server { .. }).then_some(c.template.user),
            template_system_and_user: c.template.system_and_user,
            template_confirmed: c.template.confirmed,
            template_disagreement: c.template.disagreement,
            lengths,
            joints: c.joints.iter().map(|j| (j.separate, j.together)).collect(),
            probes,
        }
    };
    models.into_iter().map(of).collect()
}
