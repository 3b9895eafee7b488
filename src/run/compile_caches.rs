//! What a server finds compiled when it starts: files of its caches before and after, and what its output says.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::server_log::ServerLog;
use benchd_core::record::{CacheFolder, CompileCaches};
use benchd_frameworks::{Adapter, CompileLine};

/// Most files of one folder that are looked at: such a cache has thousands.
const MOST_FILES: usize = 200_000;

/// The files of each folder of compile caches, before a launch.
pub(super) struct CachesBefore(Vec<(PathBuf, HashSet<PathBuf>)>);

impl CachesBefore {
    /// Looks; `None` where no cache is known of the kind.
    pub(super) fn look(adapter: &dyn Adapter) -> Option<Self> {
        let folders = adapter.compile_caches();
        if folders.is_empty() {
            return None;
        }
        let with_files = |folder: PathBuf| {
            let files = files_of(&folder);
            (folder, files)
        };
        let found = tokio::task::block_in_place(|| folders.into_iter().map(with_files).collect());
        Some(Self(found))
    }

    /// Looks again, now that the server is ready; `log` is its log since the launch.
    pub(super) fn after(self, adapter: &dyn Adapter, log: &ServerLog) -> CompileCaches {
        let (mut loaded_lines, mut compiled_lines) = (0, 0);
        // A log that can't be read says nothing; the files do.
        for line in log.since().iter().flat_map(|written| written.lines()) {
            match adapter.compile_line(line) {
                Some(CompileLine::Loaded) => loaded_lines += 1,
                Some(CompileLine::Compiled) => compiled_lines += 1,
                None => {}
            }
        }
        let grown = |(folder, before): &(PathBuf, _)| grown(folder, before);
        CompileCaches {
            folders: tokio::task::block_in_place(|| self.0.iter().filter_map(grown).collect()),
            loaded_lines,
            compiled_lines,
        }
    }
}

/// A folder as it was and as it is; `None` where it was not there and is not.
fn grown(folder: &Path, before: &HashSet<PathBuf>) -> Option<CacheFolder> {
    if !folder.is_dir() {
        return None;
    }
    let new = files_of(folder).difference(before).count();
    Some(CacheFolder {
        path: folder.display().to_string(),
        files_before: before.len() as u64,
        files_new: new as u64,
    })
}

/// Endings of files that hold nothing compiled: logs and locks of those who compile.
const NOT_COMPILED: [&str; 2] = ["log", "lock"];

/// Files below a folder that may be something compiled; links are not followed, and what can't be read is not there.
fn files_of(folder: &Path) -> HashSet<PathBuf> {
    let mut files = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if files.len() < MOST_FILES => {
                    let path = entry.path();
                    let ending = path.extension().and_then(|ending| ending.to_str());
                    if !ending.is_some_and(|ending| NOT_COMPILED.contains(&ending)) {
                        files.insert(path);
                    }
                }
                Ok(_) => return files,
                Err(_) => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_told_from_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!(grown(&cache, &files_of(&cache)), None, "no folder");

        std::fs::create_dir_all(cache.join("a/b")).unwrap();
        std::fs::write(cache.join("a/b/kernel.so"), "").unwrap();
        std::fs::write(cache.join("old.so"), "").unwrap();
        std::fs::write(cache.join("jit.log"), "").unwrap();
        let before = files_of(&cache);
        std::fs::remove_file(cache.join("old.so")).unwrap();
        std::fs::write(cache.join("a/build.lock"), "").unwrap();
        std::fs::write(cache.join("a/other.so"), "").unwrap();
        let folder = grown(&cache, &before).unwrap();
        assert_eq!((folder.files_before, folder.files_new), (2, 1));
    }
}
