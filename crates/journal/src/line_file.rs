//! A file of JSON lines in which a line is whole or absent.
//!
//! Each line goes out in one write call, so that a killed process leaves whole lines; a write that the disk took
//! only a part of is cut back. What a power loss tears is cut when the file is opened again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    marker::PhantomData,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{error::DiskError, run_dir::sync_parent};

/// A torn last line that was cut (or, when only reading, left out).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file whose last line was torn.
    pub path: PathBuf,
    /// Where the torn line starts: the length of what is whole.
    pub offset: u64,
    /// How many bytes of it there were.
    pub bytes: u64,
}

impl std::fmt::Display for TornTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: dropped a torn last line ({} bytes from byte {}), left by a crash or a full disk",
            self.path.display(),
            self.bytes,
            self.offset
        )
    }
}

/// An append-only file of `T`s, one JSON line each. What is appended outlives this process; a power loss only once it
/// was [synced](Self::sync).
#[derive(Debug)]
pub struct LineFile<T> {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    len: u64,
    line: Vec<u8>,
    /// A part of a line is in the file and could not be cut: nothing may follow it.
    torn: bool,
    of: PhantomData<fn(&T)>,
}

impl<T: Serialize> LineFile<T> {
    /// A new file; an error where it exists.
    pub(super) fn create(path: &Path) -> Result<Self, DiskError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(|e| DiskError::new("create", path, e))?;
        sync_parent(path)?;
        Ok(Self::over(path, file, 0))
    }

    /// Opens or makes the file and its folder. A torn last line is cut and told.
    ///
    /// # Errors
    /// A call on the file failed.
    pub fn open_append(path: &Path) -> Result<(Self, Option<TornTail>), DiskError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| DiskError::new("create", parent, e))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|e| DiskError::new("open", path, e))?;
        let (whole, len) = whole_lines(&mut file).map_err(|e| DiskError::new("read", path, e))?;
        if len == 0 {
            sync_parent(path)?;
        }
        let mut this = Self::over(path, file, whole);
        let torn = this.cut_to_whole(len)?;
        Ok((this, torn))
    }

    /// Continues a file that is open already, whose whole lines end at `whole` and which is `len` bytes long.
    pub(super) fn resume(
        path: &Path,
        file: File,
        whole: u64,
        len: u64,
    ) -> Result<(Self, Option<TornTail>), DiskError> {
        let mut this = Self::over(path, file, whole);
        let torn = this.cut_to_whole(len)?;
        Ok((this, torn))
    }

    fn over(path: &Path, file: File, len: u64) -> Self {
        Self {
            path: path.to_owned(),
            file,
            len,
            line: Vec::new(),
            torn: false,
            of: PhantomData,
        }
    }

    fn cut_to_whole(&mut self, len: u64) -> Result<Option<TornTail>, DiskError> {
        if len == self.len {
            return Ok(None);
        }
        let cut = self.file.set_len(self.len).and_then(|()| self.file.sync_all());
        cut.map_err(|e| DiskError::new("cut the torn last line of", &self.path, e))?;
        Ok(Some(TornTail {
            path: self.path.clone(),
            offset: self.len,
            bytes: len - self.len,
        }))
    }

    /// Appends one line in one write call.
    ///
    /// # Errors
    /// The disk is full or fails; the file holds what it held before.
    pub fn append(&mut self, value: &T) -> Result<(), DiskError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)
            .map_err(|e| DiskError::new("write a line to", &self.path, e.into()))?;
        self.line.push(b'\n');
        if self.torn {
            let why = "an earlier line was torn and could not be cut";
            return Err(DiskError::new("append to", &self.path, io::Error::other(why)));
        }
        if let Err(e) = write_line(&mut self.file, &self.line) {
            // Nothing may follow a part of a line.
            self.torn = self.file.set_len(self.len).is_err();
            return Err(DiskError::new("append to", &self.path, e));
        }
        self.len += self.line.len() as u64;
        Ok(())
    }

    /// Bytes of whole lines: where the next line starts.
    pub fn position(&self) -> u64 {
        self.len
    }

    /// Brings all lines to the disk; returns [`Self::position`].
    ///
    /// # Errors
    /// The disk fails. A file that was deleted or moved takes writes as before, but nobody will find what is written:
    /// that is an error as well.
    pub fn sync(&self) -> Result<u64, DiskError> {
        self.file
            .sync_data()
            .map_err(|e| DiskError::new("sync", &self.path, e))?;
        let opened = self
            .file
            .metadata()
            .map_err(|e| DiskError::new("look at", &self.path, e))?;
        let found = std::fs::metadata(&self.path).map_err(|e| DiskError::new("find again", &self.path, e))?;
        if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) {
            return Err(DiskError::new(
                "find again",
                &self.path,
                io::ErrorKind::NotFound.into(),
            ));
        }
        Ok(self.len)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// One write call; where the disk takes only a part, a second call asks for the reason.
fn write_line(mut out: impl Write, line: &[u8]) -> io::Result<()> {
    let written = loop {
        match out.write(line) {
            Ok(n) => break n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    };
    out.write_all(&line[written..])
}

/// The number of bytes up to and with the last newline, and the length of the file.
fn whole_lines(file: &mut File) -> io::Result<(u64, u64)> {
    const STEP: u64 = 64 * 1024;
    let len = file.seek(SeekFrom::End(0))?;
    let mut end = len;
    let mut buf = vec![0; STEP as usize];
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let part = &mut buf[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok((start + at as u64 + 1, len));
        }
        end = start;
    }
    Ok((0, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then says that the disk is full.
    struct SmallDisk {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for SmallDisk {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let n = buf.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.taken.extend_from_slice(&buf[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_short_write_reports_why() {
        let mut disk = SmallDisk {
            room: 5,
            taken: Vec::new(),
        };
        let error = write_line(&mut disk, b"0123456789\n").expect_err("the disk holds 5 bytes");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = DiskError::new("append to", "/r/journal.jsonl", error);
        assert!(error.to_string().contains("hint: the disk is full"), "{error}");
    }

    #[test]
    fn a_full_device_leaves_an_error_with_a_hint() {
        // /dev/full answers ENOSPC to every write.
        let path = Path::new("/dev/full");
        let file = OpenOptions::new().write(true).open(path).expect("/dev/full");
        let mut lines = LineFile::<u32>::over(path, file, 0);
        let error = lines.append(&1).expect_err("the device is full");
        assert!(error.to_string().contains("hint: the disk is full"), "{error}");
        assert_eq!(lines.position(), 0);
    }

    #[test]
    fn a_file_that_was_deleted_or_replaced_is_an_error_at_the_next_sync() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.jsonl");
        let mut lines = LineFile::<u32>::create(&path).expect("create");
        lines.append(&1).expect("append");
        lines.sync().expect("sync");
        std::fs::remove_file(&path).expect("remove");
        let error = lines.sync().expect_err("it is deleted");
        assert!(error.to_string().contains("deleted or moved"), "{error}");
        std::fs::write(&path, "another").expect("write");
        lines.sync().expect_err("it is another file");
    }

    #[test]
    fn a_torn_last_line_is_cut_and_told() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("deep/x.jsonl");
        let (mut lines, torn) = LineFile::<&str>::open_append(&path).expect("open");
        assert_eq!(torn, None);
        lines.append(&"one").expect("append");
        lines.append(&"two").expect("append");
        assert_eq!(lines.sync().expect("sync"), 12);
        drop(lines);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend_from_slice(&vec![b'x'; 100_000]);
        std::fs::write(&path, &bytes).expect("write");

        let (mut lines, torn) = LineFile::<&str>::open_append(&path).expect("open");
        let torn = torn.expect("a torn tail");
        assert_eq!((torn.offset, torn.bytes), (12, 100_000));
        lines.append(&"three").expect("append");
        assert_eq!(
            std::fs::read(&path).expect("read"),
            b"\"one\"\n\"two\"\n\"three\"\n"
        );
    }

    #[test]
    fn a_file_without_any_whole_line_is_emptied() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, b"{\"v\":1").expect("write");
        let (lines, torn) = LineFile::<u32>::open_append(&path).expect("open");
        assert_eq!(lines.position(), 0);
        assert_eq!(torn.map(|t| t.bytes), Some(6));
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 0);
    }
}
