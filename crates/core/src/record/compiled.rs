//! What a server found compiled when it started: its start was cold or warm.

use serde::{Deserialize, Serialize};

/// The compile caches of a server over its start: what an earlier start had left there, and what this one added until
/// it was ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CompileCaches {
    /// The folders that are known of its kind, those that are not there left out.
    pub folders: Vec<CacheFolder>,
    /// Lines of its output that say that it loaded what was compiled before.
    pub loaded_lines: u64,
    /// Lines of its output that say that it compiled.
    pub compiled_lines: u64,
}

/// One folder of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheFolder {
    /// Where.
    pub path: String,
    /// Files before the launch.
    pub files_before: u64,
    /// Files that were there when it was ready and had not been before.
    pub files_new: u64,
}

/// How a server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warmth {
    /// It compiled all that it needed.
    Cold,
    /// It compiled nothing, and something was there for it.
    Warm,
    /// Something was there, and more was compiled.
    Partly,
    /// Nothing was there and nothing came: it compiles nothing, or keeps it where nobody looked (a wrapper that sets the
    /// folders itself).
    NothingSeen,
}

impl CompileCaches {
    /// Files before the launch, all folders together.
    pub fn files_before(&self) -> u64 {
        self.folders.iter().map(|folder| folder.files_before).sum()
    }

    /// Files that came until it was ready, all folders together.
    pub fn files_new(&self) -> u64 {
        self.folders.iter().map(|folder| folder.files_new).sum()
    }

    /// How it started. What the server says outweighs the count of files: a folder may hold what was compiled for
    /// another model, and a start may leave files of other uses there.
    pub fn warmth(&self) -> Warmth {
        match (self.loaded_lines > 0, self.compiled_lines > 0) {
            (true, true) => return Warmth::Partly,
            (true, false) => return Warmth::Warm,
            (false, true) => return Warmth::Cold,
            (false, false) => {}
        }
        match (self.files_before() > 0, self.files_new() > 0) {
            (true, true) => Warmth::Partly,
            (true, false) => Warmth::Warm,
            (false, true) => Warmth::Cold,
            (false, false) => Warmth::NothingSeen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_cold_or_warm_by_the_servers_words_and_else_by_its_files() {
        let caches = |loaded_lines, compiled_lines, files_before, files_new| CompileCaches {
            folders: vec![CacheFolder {
                path: "/c".to_owned(),
                files_before,
                files_new,
            }],
            loaded_lines,
            compiled_lines,
        };
        for (given, expected) in [
            ((0, 0, 0, 0), Warmth::NothingSeen),
            ((0, 0, 0, 7), Warmth::Cold),
            ((0, 0, 7, 0), Warmth::Warm),
            ((0, 0, 7, 1), Warmth::Partly),
            // The files of another model were there.
            ((0, 1, 7, 9), Warmth::Cold),
            // A lock file came.
            ((2, 0, 7, 1), Warmth::Warm),
            ((1, 1, 7, 9), Warmth::Partly),
        ] {
            let (loaded, compiled, before, new) = given;
            assert_eq!(
                caches(loaded, compiled, before, new).warmth(),
                expected,
                "{given:?}"
            );
        }
    }
}
