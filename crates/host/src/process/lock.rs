//! One benchd a GPU: a lock that dies with its holder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another benchd holds it.
    #[error(
        "{what} is held by another benchd: {holder}\n  hint: wait for it, or stop it (`benchd status` shows where it stands)"
    )]
    Held {
        /// What the lock is for, in words that an error can use: `GPU <uuid>`.
        what: String,
        /// Who holds it, as written in the lock's file.
        holder: String,
    },
    /// The lock's file can't be used.
    #[error("the lock file {path} can't be used: {source}")]
    Io {
        /// The lock's own file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// A held lock. The kernel drops it with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for one GPU, by UUID, machine-wide: the file lies in /run/lock (or /tmp).
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn gpu(uuid: &str, holder: &str) -> Result<Self, LockError> {
        Self::file(&gpu_file(uuid), &format!("GPU {uuid}"), holder)
    }

    /// Who holds the lock for one GPU; `None` where nobody does. Looks only: the lock is let go at once.
    ///
    /// # Errors
    /// The lock's file is there and can't be used.
    pub fn gpu_holder(uuid: &str) -> Result<Option<String>, LockError> {
        Self::holder(&gpu_file(uuid))
    }

    fn holder(path: &Path) -> Result<Option<String>, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => read_holder(&mut file).map(Some).map_err(io),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Takes the lock on `path`, and writes who holds it into the file.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn file(path: &Path, what: &str, holder: &str) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o666)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    what: what.to_owned(),
                    holder: read_holder(&mut file).map_err(io)?,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(file, "{holder}").map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The file of a GPU's lock, machine-wide.
fn gpu_file(uuid: &str) -> PathBuf {
    [Path::new("/run/lock"), Path::new("/tmp")]
        .into_iter()
        .find(|dir| dir.is_dir() && nix::unistd::access(*dir, nix::unistd::AccessFlags::W_OK).is_ok())
        .unwrap_or(Path::new("/tmp"))
        .join(format!("benchd-{uuid}.lock"))
}

/// What the holder wrote of itself.
fn read_holder(file: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(match text.trim() {
        "" => "(it did not say who)".to_owned(),
        who => who.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpu.lock");
        let first = Lock::file(&path, "GPU 0", "pid 7, run night").unwrap();
        let refused = Lock::file(&path, "GPU 0", "pid 8").unwrap_err();
        assert!(refused.to_string().contains("pid 7, run night"), "{refused}");
        assert_eq!(Lock::holder(&path).unwrap().as_deref(), Some("pid 7, run night"));
        drop(first);
        assert_eq!(Lock::holder(&path).unwrap(), None);
        assert_eq!(Lock::holder(&dir.path().join("none.lock")).unwrap(), None);
        Lock::file(&path, "GPU 0", "pid 8").unwrap();
    }
}
