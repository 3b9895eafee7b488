//! The journal's reading end. Strict: a torn last line is dropped and told, any other damage is an error.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde::Deserialize;

use super::{
    error::{DiskError, JournalError},
    event::{Entry, JOURNAL_VERSION},
    line_file::TornTail,
};

/// What a journal holds.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// All entries, in order; `entries[i].seq == i`.
    pub entries: Vec<Entry>,
    /// Bytes of whole lines.
    pub bytes: u64,
    /// A last line without its end, left out of `entries`.
    pub torn_tail: Option<TornTail>,
}

/// Reads a journal, also while another process writes it.
pub fn replay(path: &Path) -> Result<Replay, JournalError> {
    let file = File::open(path).map_err(|e| DiskError::new("open", path, e))?;
    replay_file(path, &file)
}

/// Reads a journal from its start.
pub(super) fn replay_file(path: &Path, mut file: &File) -> Result<Replay, JournalError> {
    let fail = |e| DiskError::new("read", path, e);
    io::Seek::rewind(&mut file).map_err(fail)?;
    let mut reader = BufReader::new(file);
    let mut replay = Replay::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line).map_err(fail)? as u64;
        if n == 0 {
            return Ok(replay);
        }
        let is_last = reader.fill_buf().map_err(fail)?.is_empty();
        // Zeros in the last line are blocks that a power loss kept from the disk, newline or not.
        if line.last() != Some(&b'\n') || (is_last && line.contains(&0)) {
            replay.torn_tail = Some(TornTail {
                path: path.to_owned(),
                offset: replay.bytes,
                bytes: n,
            });
            return Ok(replay);
        }
        let seq = replay.entries.len() as u64;
        replay.entries.push(entry(path, &line, seq)?);
        replay.bytes += n;
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u64,
}

fn entry(path: &Path, line: &[u8], seq: u64) -> Result<Entry, JournalError> {
    let number = seq + 1;
    let damaged = |reason: String| JournalError::Damaged {
        path: path.to_owned(),
        line: number,
        reason,
    };
    // The version first: a later layout's line must not be called damaged.
    let version: VersionOnly = serde_json::from_slice(line).map_err(|e| damaged(e.to_string()))?;
    if version.v != u64::from(JOURNAL_VERSION) {
        return Err(JournalError::Version {
            path: path.to_owned(),
            line: number,
            found: version.v,
            known: JOURNAL_VERSION,
        });
    }
    let entry: Entry = serde_json::from_slice(line).map_err(|e| damaged(e.to_string()))?;
    if entry.seq != seq {
        return Err(JournalError::Gap {
            path: path.to_owned(),
            line: number,
            expected: seq,
            found: entry.seq,
        });
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Event, State, testing::*},
        *,
    };

    /// The journal of these events, as it stands on the disk.
    fn text(events: Vec<Event>) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in entries(events) {
            serde_json::to_writer(&mut text, &entry).expect("an entry");
            text.push(b'\n');
        }
        text
    }

    fn replay_text(text: &[u8]) -> Result<Replay, JournalError> {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal.jsonl");
        std::fs::write(&path, text).expect("write");
        replay(&path)
    }

    #[test]
    fn every_event_comes_back_as_written() {
        let events = whole_run();
        let replay = replay_text(&text(events.clone())).expect("replay");
        assert_eq!(replay.entries, entries(events));
        assert_eq!(replay.torn_tail, None);
    }

    #[test]
    fn a_cut_at_every_byte_keeps_every_whole_line() {
        let text = text(whole_run());
        let all = replay_text(&text).expect("replay").entries;
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal.jsonl");
        for cut in 0..=text.len() {
            let part = &text[..cut];
            std::fs::write(&path, part).expect("write");
            let replay = replay(&path).expect("a cut is no damage");
            let whole = part.iter().filter(|b| **b == b'\n').count();
            assert_eq!(replay.entries, all[..whole], "cut at {cut}");
            assert_eq!(
                replay.torn_tail.is_some(),
                !part.is_empty() && !part.ends_with(b"\n"),
                "cut at {cut}"
            );
            let _ = State::from_entries(&replay.entries);
        }
    }

    #[test]
    fn zeros_after_a_power_loss_are_a_torn_tail() {
        for tail in [&b"\0\0\0\0"[..], b"\0\0\0\0}}\n"] {
            let mut text = text(whole_run());
            let (whole, lines) = (text.len() as u64, whole_run().len());
            text.extend_from_slice(tail);
            let replay = replay_text(&text).expect("replay");
            assert_eq!(replay.entries.len(), lines);
            let torn = replay.torn_tail.expect("torn");
            assert_eq!((torn.offset, torn.bytes), (whole, tail.len() as u64));
        }
    }

    #[test]
    fn damage_elsewhere_is_refused_with_its_line() {
        let good = String::from_utf8(text(whole_run())).expect("UTF-8");
        let lines: Vec<&str> = good.lines().collect();
        let with = |f: &dyn Fn(&mut Vec<String>)| {
            let mut lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            f(&mut lines);
            replay_text((lines.join("\n") + "\n").as_bytes())
        };

        let error = with(&|l| l[3] = "{\"v\":1,\"seq\":3,".to_owned()).expect_err("line 4 is cut");
        assert!(matches!(error, JournalError::Damaged { line: 4, .. }), "{error}");
        assert!(error.to_string().contains("journal.jsonl:4: "), "{error}");
        assert!(error.to_string().contains("hint: "), "{error}");

        let error = with(&|l| drop(l.remove(2))).expect_err("line 3 is gone");
        let gap = matches!(
            error,
            JournalError::Gap {
                line: 3,
                expected: 2,
                found: 3,
                ..
            }
        );
        assert!(gap, "{error}");

        let error = with(&|l| l.insert(2, l[1].clone())).expect_err("line 2 is doubled");
        let gap = matches!(
            error,
            JournalError::Gap {
                line: 3,
                expected: 2,
                found: 1,
                ..
            }
        );
        assert!(gap, "{error}");

        // A later layout is named as such, also where its events are not known.
        let later = "{\"v\":9,\"seq\":1,\"when\":\"2030\",\"event\":{\"lane_cloned\":{}}}".to_owned();
        let error = with(&|l| l[1].clone_from(&later)).expect_err("version 9");
        assert!(
            matches!(
                error,
                JournalError::Version {
                    line: 2,
                    found: 9,
                    ..
                }
            ),
            "{error}"
        );

        // A last line with its newline was written whole: it is damaged, not torn.
        let last = lines.len() - 1;
        let error = with(&|l| l[last] = "not json".to_owned()).expect_err("the last line is no entry");
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    }

    /// Changes `text` as `edits` say: at a place, replace, insert, or delete.
    fn mutate(text: &mut Vec<u8>, edits: &[(usize, u8, u8)]) {
        for &(at, kind, byte) in edits {
            if text.is_empty() {
                return;
            }
            let at = at % text.len();
            match kind % 4 {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 => drop(text.remove(at)),
                _ => text.truncate(at),
            }
        }
    }

    /// Replays changed text: no panic; what comes back has the right numbers, is a prefix of what was written
    /// up to the first change, and folds.
    fn check_mutated(events: Vec<Event>, edits: &[(usize, u8, u8)]) {
        let original = text(events.clone());
        let mut changed = original.clone();
        mutate(&mut changed, edits);
        let same = original.iter().zip(&changed).take_while(|(a, b)| a == b).count();
        let whole_before = original[..same].iter().filter(|b| **b == b'\n').count();
        match replay_text(&changed) {
            Ok(replay) => {
                assert!(replay.entries.len() >= whole_before);
                assert_eq!(replay.entries[..whole_before], entries(events)[..whole_before]);
                assert!(replay.entries.iter().enumerate().all(|(i, e)| e.seq == i as u64));
                let _ = State::from_entries(&replay.entries);
            }
            Err(
                JournalError::Damaged { line, .. }
                | JournalError::Gap { line, .. }
                | JournalError::Version { line, .. },
            ) => assert!(line > whole_before as u64, "line {line} was not touched"),
            Err(other) => panic!("{other}"),
        }
    }

    fn edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
        prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 0..6)
    }

    /// Any events in any order: State has to fold them all.
    fn any_events() -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(prop::sample::select(whole_run()), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn changed_journals_never_panic_and_blame_the_right_line(events in any_events(), edits in edits()) {
            check_mutated(events, &edits);
        }

        #[test]
        fn any_order_of_events_folds(events in any_events()) {
            let all = entries(events);
            let mut state = State::default();
            for entry in &all {
                state.apply(entry);
                prop_assert!(state.cells_finished() <= all.len());
            }
            prop_assert_eq!(state, State::from_entries(&all));
        }
    }

    #[test]
    #[ignore = "a long run, by command"]
    fn fuzz_journal() {
        benchd_fuzzing::run("journal replay", &(any_events(), edits()), |(events, edits)| {
            check_mutated(events, &edits);
            Ok(())
        });
    }
}
