//! A server's log: every line with its arrival time, bounded on disk, its last lines in memory.
//!
//! ```text
//! 2026-11-24T19:00:01.234Z out | a line of standard output
//! 2026-11-24T19:00:01.236Z err + a part of a line that goes on in the next one
//! 2026-11-24T19:00:01.300Z --- | a remark of benchd's own
//! ```
//!
//! The first half of the limit is the log itself, `NAME.log`: the start is what explains most failures. What
//! comes after it goes to `NAME.newest.log`, which becomes `NAME.newest-1.log` when it holds a quarter of the
//! limit, so that the newest part is always there as well.
//!
//! The disk has a thread of its own: one that is slow or full costs lines of the log, never the server's
//! pace.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use super::lines::Line;
use benchd_core::record::Redactor;

/// Most bytes that may wait for the disk.
const QUEUE_BYTES: usize = 8 << 20;

/// What a waiting batch costs beside its bytes.
const BATCH_OVERHEAD_BYTES: usize = 64;

/// How much of a line the memory of last lines keeps.
const RING_LINE_BYTES: usize = 2048;

/// Where a log is and how large it may become.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The file, `….log`. It is appended to.
    pub path: PathBuf,
    /// Bytes on disk, all parts together, about.
    pub limit_bytes: u64,
    /// Last lines to keep in memory.
    pub ring_lines: usize,
    /// Takes secrets out of every line.
    pub redactor: Redactor,
}

/// A night of one server's log, all parts together, stays under this.
const DEFAULT_LIMIT_BYTES: u64 = 256 << 20;

/// Last lines kept for a failure's report.
const DEFAULT_RING_LINES: usize = 40;

impl LogSettings {
    /// A log at `path`, of 256 MiB at most, with its last 40 lines kept.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limit_bytes: DEFAULT_LIMIT_BYTES,
            ring_lines: DEFAULT_RING_LINES,
            redactor: Redactor::default(),
        }
    }
}

/// Lines that a log received and lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// Lines received; one that was cut at the cap counts as several.
    pub lines: u64,
    /// Lines that did not reach the disk.
    pub lost_lines: u64,
    /// The first error of the disk, for people.
    pub error: Option<String>,
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Out,
    Err,
    /// benchd itself.
    Remark,
}

impl Origin {
    fn tag(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Remark => "---",
        }
    }
}

/// State and last lines of a log: the writer and its disk thread write them, whoever asks reads them.
#[derive(Debug, Default)]
pub(super) struct LogView {
    state: Mutex<LogState>,
    ring: Mutex<VecDeque<String>>,
    /// Bytes that wait for the disk.
    queued: AtomicUsize,
}

impl LogView {
    pub(super) fn state(&self) -> LogState {
        lock(&self.state).clone()
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        lock(&self.ring).iter().cloned().collect()
    }

    fn lost(&self, lines: u64, error: Option<&io::Error>) {
        let mut state = lock(&self.state);
        state.lost_lines += lines;
        if let Some(error) = error
            && state.error.is_none()
        {
            tracing::warn!(%error, "a server's log can't be written; the server goes on");
            state.error = Some(error.to_string());
        }
    }
}

/// A poisoned lock guards plain counters and text: what is there is still right.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines of one read, formatted.
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    fn cost(&self) -> usize {
        self.bytes.len() + BATCH_OVERHEAD_BYTES
    }
}

/// The pump's end of the log.
#[derive(Debug)]
pub(super) struct LogWriter {
    view: Arc<LogView>,
    ring_lines: usize,
    queue: Sender<Batch>,
    thread: JoinHandle<()>,
    /// Lines that found the queue full since the last that did not.
    dropped: u64,
    pending: Vec<u8>,
    pending_lines: u64,
}

impl LogWriter {
    /// Opens the log and starts its thread.
    pub(super) fn open(settings: &LogSettings) -> io::Result<Self> {
        let files = LogFiles::open(&settings.path, settings.limit_bytes)?;
        let view = Arc::new(LogView::default());
        let (queue, batches) = channel();
        let thread = std::thread::Builder::new().name("server-log".into()).spawn({
            let view = Arc::clone(&view);
            move || write_all(files, &batches, &view)
        })?;
        Ok(Self {
            view,
            ring_lines: settings.ring_lines,
            queue,
            thread,
            dropped: 0,
            pending: Vec::new(),
            pending_lines: 0,
        })
    }

    /// To be read by others while the log is written.
    pub(super) fn view(&self) -> Arc<LogView> {
        Arc::clone(&self.view)
    }

    /// Adds a line to the batch in hand, and to the memory of last lines.
    pub(super) fn line(&mut self, now: &str, origin: Origin, line: &Line) {
        let mark = if line.continues { '+' } else { '|' };
        // Writing to a Vec can't fail.
        let _ = writeln!(self.pending, "{now} {} {mark} {}", origin.tag(), line.text);
        self.pending_lines += 1;
        let mut ring = lock(&self.view.ring);
        while ring.len() >= self.ring_lines.max(1) {
            ring.pop_front();
        }
        ring.push_back(shortened(&line.text));
    }

    /// Hands the batch to the disk's thread, or drops and counts it where that is too far behind.
    pub(super) fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.pending);
        let lines = std::mem::take(&mut self.pending_lines);
        lock(&self.view.state).lines += lines;
        if self.dropped > 0 {
            let mut told = remark(&format!("{} lines lost: the disk was too slow", self.dropped));
            told.append(&mut bytes);
            bytes = told;
        }
        let batch = Batch { bytes, lines };
        let cost = batch.cost();
        let waiting = self.view.queued.load(Ordering::Relaxed);
        let fits = waiting + cost <= QUEUE_BYTES;
        if fits {
            // Before the send: the disk's thread takes it off again at once.
            self.view.queued.fetch_add(cost, Ordering::Relaxed);
        }
        if fits && self.queue.send(batch).is_ok() {
            self.dropped = 0;
        } else {
            self.dropped += lines;
            self.view.lost(lines, None);
        }
    }

    /// Hands over what is in hand and lets the disk's thread end when all is written. The caller decides how
    /// long to wait for it: the disk may hang.
    pub(super) fn close(mut self) -> JoinHandle<()> {
        self.hand_over();
        // The queue goes with `self`.
        self.thread
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= RING_LINE_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(RING_LINE_BYTES)])
}

/// The time as the log shows it: RFC 3339, UTC, milliseconds.
pub(super) fn stamp() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

fn remark(text: &str) -> Vec<u8> {
    format!("{} {} | {text}\n", stamp(), Origin::Remark.tag()).into_bytes()
}

fn write_all(mut files: LogFiles, batches: &Receiver<Batch>, view: &LogView) {
    let mut lost_before = 0;
    while let Ok(mut batch) = batches.recv() {
        let cost = batch.cost();
        if lost_before > 0 {
            let mut told = remark(&format!("{lost_before} lines lost: the log could not be written"));
            told.append(&mut batch.bytes);
            batch.bytes = told;
        }
        match files.write(&batch.bytes) {
            Ok(()) => lost_before = 0,
            Err(error) => {
                lost_before += batch.lines;
                view.lost(batch.lines, Some(&error));
            }
        }
        view.queued.fetch_sub(cost, Ordering::Relaxed);
    }
}

/// The parts of a log on disk.
#[derive(Debug)]
struct LogFiles {
    path: PathBuf,
    first_limit: u64,
    newest_limit: u64,
    part: Part,
    file: File,
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Newest,
}

impl LogFiles {
    fn open(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let (file, written) = append(path)?;
        Ok(Self {
            path: path.to_owned(),
            first_limit: limit_bytes / 2,
            newest_limit: limit_bytes / 4,
            part: Part::First,
            file,
            written,
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let limit = match self.part {
            Part::First => self.first_limit,
            Part::Newest => self.newest_limit,
        };
        // An empty part takes any batch, so that a small limit can't turn for ever.
        if self.written > 0 && self.written + lines.len() as u64 > limit {
            self.turn()?;
        }
        self.file.write_all(lines)?;
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Goes on to the next part.
    fn turn(&mut self) -> io::Result<()> {
        let newest = part_path(&self.path, "newest");
        let older = part_path(&self.path, "newest-1");
        match self.part {
            Part::First => {
                let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let told = remark(&format!(
                    "the log is large: it goes on in {}, of which the newest is kept",
                    name(&newest)
                ));
                self.file.write_all(&told)?;
            }
            Part::Newest => std::fs::rename(&newest, &older)?,
        }
        let (file, written) = append(&newest)?;
        self.file = file;
        self.written = written;
        self.part = Part::Newest;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

/// `vllm-llama.log` -> `vllm-llama.newest.log`.
fn part_path(path: &Path, part: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{part}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_and_the_newest_are_kept_and_the_size_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.log");
        let mut files = LogFiles::open(&path, 4000).unwrap();
        for i in 0..1000 {
            files.write(format!("line {i:05}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let first = read("a b.log");
        assert!(first.starts_with("line 00000\n"));
        assert!(first.trim_end().ends_with("of which the newest is kept"));
        let newest = read("a b.newest-1.log") + &read("a b.newest.log");
        assert!(newest.ends_with("line 00999\n"));
        // Whole lines without a gap within the newest part.
        let numbers: Vec<u32> = newest.lines().map(|l| l[5..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1));
        let total: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|f| f.unwrap().metadata().unwrap().len())
            .sum();
        assert!(total <= 4000 + 200, "{total} bytes");
    }

    #[test]
    fn a_log_that_exists_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/x.log");
        LogFiles::open(&path, 1000).unwrap().write(b"one\n").unwrap();
        LogFiles::open(&path, 1000).unwrap().write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_told_once() {
        let view = LogView::default();
        let (queue, batches) = channel();
        for _ in 0..3 {
            queue
                .send(Batch {
                    bytes: b"x\n".to_vec(),
                    lines: 1,
                })
                .unwrap();
        }
        drop(queue);
        view.queued.store(QUEUE_BYTES, Ordering::Relaxed);
        // /dev/full takes the open and refuses every write with ENOSPC.
        let files = LogFiles {
            path: "/dev/full".into(),
            first_limit: 1000,
            newest_limit: 1000,
            part: Part::First,
            file: OpenOptions::new().append(true).open("/dev/full").unwrap(),
            written: 0,
        };
        write_all(files, &batches, &view);
        let state = view.state();
        assert_eq!(state.lost_lines, 3);
        assert!(state.error.unwrap().contains("No space left"));
    }

    #[test]
    fn the_ring_keeps_the_last_lines_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(&LogSettings {
            path: dir.path().join("x.log"),
            limit_bytes: 1 << 20,
            ring_lines: 2,
            redactor: Redactor::default(),
        })
        .unwrap();
        for text in ["one", "two", &"한".repeat(2000)] {
            let line = Line {
                text: text.into(),
                continues: false,
                overwritten: false,
            };
            log.line("T", Origin::Out, &line);
        }
        let tail = log.view().tail();
        assert_eq!(tail[0], "two");
        assert!(tail[1].ends_with('…') && tail[1].len() < 2100);
    }
}
