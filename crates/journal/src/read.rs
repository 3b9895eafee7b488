//! Reading the records that an end event names, and GPU samples: line by line, never a whole file in memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take},
    path::{Component, Path, PathBuf},
};

use super::{
    error::{DiskError, RecordError},
    event::CellEnded,
};
use benchd_core::record::{GPU_SAMPLE_VERSION, GpuSample, REQUEST_RECORD_VERSION, RequestRecord};

/// The records of one attempt of a cell, warm-up included, in the order in which they were stored. Ends after the
/// first error.
#[derive(Debug)]
pub struct CellRecords {
    reader: BufReader<Take<File>>,
    path: PathBuf,
    round: u32,
    cell: String,
    attempt: u32,
    expected: u64,
    /// Where the next line starts in the file.
    offset: u64,
    found: u64,
    done: bool,
    line: Vec<u8>,
}

/// Opens the records that `ended` names, in the run folder `root`.
pub fn cell_records(root: &Path, ended: &CellEnded) -> Result<CellRecords, RecordError> {
    let inside = Path::new(&ended.file)
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !inside || ended.file.is_empty() {
        return Err(RecordError::Outside {
            cell: ended.cell.clone(),
            file: ended.file.clone(),
        });
    }
    let path = root.join(&ended.file);
    let mut file = File::open(&path).map_err(|e| DiskError::new("open", &path, e))?;
    file.seek(SeekFrom::Start(ended.offset))
        .map_err(|e| DiskError::new("read", &path, e))?;
    Ok(CellRecords {
        reader: BufReader::with_capacity(256 * 1024, file.take(ended.bytes)),
        path,
        round: ended.lane.round,
        cell: ended.cell.clone(),
        attempt: ended.attempt,
        expected: ended.records,
        offset: ended.offset,
        found: 0,
        done: false,
        line: Vec::new(),
    })
}

impl CellRecords {
    fn damaged(&self, reason: String) -> RecordError {
        RecordError::Damaged {
            path: self.path.clone(),
            cell: self.cell.clone(),
            line: self.found + 1,
            offset: self.offset,
            reason,
        }
    }

    fn read(&mut self) -> Result<Option<RequestRecord>, RecordError> {
        self.line.clear();
        let n = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(|e| DiskError::new("read", &self.path, e))?;
        if n == 0 {
            if self.found != self.expected {
                return Err(RecordError::Count {
                    path: self.path.clone(),
                    cell: self.cell.clone(),
                    expected: self.expected,
                    found: self.found,
                });
            }
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            return Err(self.damaged("the line has no end".to_owned()));
        }
        let record: RequestRecord =
            serde_json::from_slice(&self.line).map_err(|e| self.damaged(e.to_string()))?;
        if record.v != REQUEST_RECORD_VERSION {
            let text = format!(
                "layout version {}, this benchd reads {REQUEST_RECORD_VERSION}",
                record.v
            );
            return Err(self.damaged(text));
        }
        let (is, should) = (
            (&record.cell, record.attempt, record.round),
            (&self.cell, self.attempt, self.round),
        );
        if is != should {
            return Err(self.damaged(format!(
                "it is a record of {} (attempt {}, round {}), not of attempt {}, round {}",
                is.0, is.1, is.2, should.1, should.2
            )));
        }
        self.found += 1;
        self.offset += n as u64;
        Ok(Some(record))
    }
}

impl Iterator for CellRecords {
    type Item = Result<RequestRecord, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The samples of a lane, in the order in which they were stored. Samples are not synced line by line, so a power
/// loss may leave lines that are none: they are left out and counted.
#[derive(Debug)]
pub struct GpuSamples {
    reader: BufReader<File>,
    path: PathBuf,
    line: Vec<u8>,
    /// Lines that are no sample of this version.
    unreadable: u64,
    done: bool,
}

/// Opens the samples in `path`; `None` where the lane has none (`gpu: none`).
pub fn gpu_samples(path: &Path) -> Result<Option<GpuSamples>, DiskError> {
    match File::open(path) {
        Ok(file) => Ok(Some(GpuSamples {
            reader: BufReader::with_capacity(256 * 1024, file),
            path: path.to_owned(),
            line: Vec::new(),
            unreadable: 0,
            done: false,
        })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DiskError::new("open", path, e)),
    }
}

impl GpuSamples {
    /// Lines met so far that are no sample of this version.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Iterator for GpuSamples {
    type Item = Result<GpuSample, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            self.line.clear();
            match self.reader.read_until(b'\n', &mut self.line) {
                // A last line without its end is being written right now, or torn.
                Ok(_) if self.line.last() != Some(&b'\n') => self.done = true,
                Ok(_) => match serde_json::from_slice::<GpuSample>(&self.line) {
                    Ok(sample) if sample.v == GPU_SAMPLE_VERSION => return Some(Ok(sample)),
                    _ => self.unreadable += 1,
                },
                Err(e) => {
                    self.done = true;
                    return Some(Err(DiskError::new("read", &self.path, e)));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::RecordFile;
    use benchd_core::record::ClientLag;
    use benchd_core::record::{LaneId, Outcome, Phase, TokenSource};

    fn record(cell: &str, attempt: u32, index: u32) -> RequestRecord {
        RequestRecord {
            v: REQUEST_RECORD_VERSION,
            round: 1,
            scenario: "single".to_owned(),
            cell: cell.to_owned(),
            attempt,
            lane_attempt: 1,
            pass: 1,
            index,
            stream: 0,
            prompt_id: "p".to_owned(),
            response_id: None,
            response_model: None,
            phase: Phase::Measured,
            outcome: Outcome::Ok,
            error: None,
            status: Some(200),
            sent_unix_us: 1,
            queued_us: None,
            connect_us: Some(9),
            first_chunk_us: Some(10),
            first_token_us: Some(10),
            first_content_us: Some(10),
            last_token_us: Some(20),
            end_us: 30,
            chunks_us: vec![10, 20],
            coalesced: 0,
            prompt_tokens: Some(128),
            output_tokens: Some(2),
            cached_tokens: None,
            token_source: TokenSource::Usage,
            finish_reason: Some("length".to_owned()),
            text: "가나".to_owned(),
            reasoning: String::new(),
            server_timings: None,
        }
    }

    /// Two attempts of a cell in one file; the end event of the second.
    fn two_attempts() -> (tempfile::TempDir, CellEnded) {
        let dir = tempfile::tempdir().expect("tempdir");
        let (mut file, _) = RecordFile::open_append(&dir.path().join("f/m/requests.jsonl")).expect("open");
        file.append(&record("single/in128", 1, 0)).expect("append");
        let offset = file.position();
        for index in 0..3 {
            file.append(&record("single/in128", 2, index)).expect("append");
        }
        let bytes = file.sync().expect("sync") - offset;
        file.append(&record("single/in512", 1, 0)).expect("append");
        let ended = CellEnded {
            lane: LaneId {
                framework: "f".to_owned(),
                model: "m".to_owned(),
                round: 1,
            },
            cell: "single/in128".to_owned(),
            attempt: 2,
            file: "f/m/requests.jsonl".to_owned(),
            offset,
            bytes,
            records: 3,
            requests: 3,
            failed: 0,
            passes: Vec::new(),
            client: ClientLag::default(),
            flags: Vec::new(),
            server_counters: BTreeMap::new(),
        };
        (dir, ended)
    }

    #[test]
    fn only_what_the_end_event_names_is_read() {
        let (dir, ended) = two_attempts();
        let records: Result<Vec<_>, _> = cell_records(dir.path(), &ended).expect("open").collect();
        let expected: Vec<_> = (0..3).map(|i| record("single/in128", 2, i)).collect();
        assert_eq!(records.expect("records"), expected);
    }

    #[test]
    fn a_wrong_count_a_wrong_range_and_a_wrong_cell_are_named() {
        let (dir, ended) = two_attempts();
        let last = |ended: &CellEnded| {
            let all: Vec<_> = cell_records(dir.path(), ended).expect("open").collect();
            all.into_iter()
                .last()
                .expect("an item")
                .expect_err("an error")
                .to_string()
        };
        let text = last(&CellEnded {
            records: 4,
            ..ended.clone()
        });
        assert!(
            text.contains("has 3 records in its range, its end event says 4"),
            "{text}"
        );
        let text = last(&CellEnded {
            bytes: ended.bytes - 1,
            ..ended.clone()
        });
        assert!(text.contains("the line has no end"), "{text}");
        let text = last(&CellEnded {
            bytes: ended.bytes + 5,
            ..ended.clone()
        });
        assert!(text.contains("the line has no end"), "{text}");
        let text = last(&CellEnded {
            offset: 0,
            ..ended.clone()
        });
        assert!(text.contains("not of attempt 2"), "{text}");
        let text = last(&CellEnded {
            offset: ended.offset + 3,
            ..ended.clone()
        });
        assert!(text.contains("record 1 of cell single/in128"), "{text}");
    }

    #[test]
    fn a_name_outside_the_run_folder_is_refused() {
        let (dir, ended) = two_attempts();
        for file in ["../x", "/etc/passwd", "f/../../x", ""] {
            let ended = CellEnded {
                file: file.to_owned(),
                ..ended.clone()
            };
            let outside = matches!(cell_records(dir.path(), &ended), Err(RecordError::Outside { .. }));
            assert!(outside, "{file}");
        }
    }

    #[test]
    fn samples_that_a_power_loss_spoiled_are_counted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("gpu.jsonl");
        assert!(gpu_samples(&path).expect("no file is no error").is_none());
        let line = r#"{"v":1,"unix_us":5,"device":0,"memory_used_bytes":7,"memory_reserved_bytes":null,"util_gpu_pct":null,"util_memory_pct":null,"power_mw":null,"energy_mj":null,"sm_clock_mhz":null,"memory_clock_mhz":null,"temperature_c":null,"throttle":null,"processes":null,"took_us":1}"#;
        std::fs::write(&path, format!("{line}\n\0\0\0\n{line}\n{{\"v\":1")).expect("write");
        let mut samples = gpu_samples(&path).expect("open").expect("a file");
        assert_eq!(samples.by_ref().filter(Result::is_ok).count(), 2);
        assert_eq!(samples.unreadable(), 1);
    }
}
