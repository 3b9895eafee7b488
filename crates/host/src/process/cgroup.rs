//! A server's own cgroup (v2), where systemd or the user delegates one: nothing that the server starts can
//! leave it, whatever sessions it makes and however it forks, and one write kills all of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A child cgroup for one server. Removed when dropped, if it is empty.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Where the cgroup of the server with this token is, below a delegated directory: known to a later benchd
    /// from the token alone.
    pub fn dir_of(delegated: &Path, token: &str) -> PathBuf {
        delegated.join(format!("server-{token}"))
    }

    /// Makes the cgroup of the server with this token below a delegated directory.
    ///
    /// # Errors
    /// The directory is no cgroup v2, or benchd may not write there.
    pub fn create(delegated: &Path, token: &str) -> io::Result<Self> {
        let dir = Self::dir_of(delegated, token);
        std::fs::create_dir(&dir)?;
        let cgroup = Self { dir };
        if !cgroup.dir.join("cgroup.kill").exists() {
            return Err(io::Error::other(format!(
                "`{}` is no version 2 cgroup of a kernel that has cgroup.kill (Linux 5.14)",
                delegated.display()
            )));
        }
        Ok(cgroup)
    }

    /// A cgroup that a dead benchd left, by its directory; `None` where it is gone.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        dir.join("cgroup.kill").exists().then(|| Self { dir: dir.into() })
    }

    /// Where it is in the cgroup file system.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file into which a process writes `0` to enter.
    pub(super) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    /// Pids inside. Empty where it can't be read.
    pub fn pids(&self) -> Vec<i32> {
        std::fs::read_to_string(self.dir.join("cgroup.procs"))
            .map(|text| text.lines().filter_map(|l| l.trim().parse().ok()).collect())
            .unwrap_or_default()
    }

    /// Sends KILL to everything inside, forks in flight included.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn kill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.dir.join("cgroup.kill"))?;
        file.write_all(b"1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy while a process is left in it; then its stop has named that process already.
        if let Err(error) = std::fs::remove_dir(&self.dir) {
            tracing::debug!(dir = %self.dir.display(), %error, "the server's cgroup stays");
        }
    }
}
