//! A GPU that tests control: a copy of the library of `tests/fake-nvml` in a folder of its own, with its state
//! file beside it.
//!
//! In this process, open it by path: `Gpu::open(&selection, Some(fake.library()))`. For a child process, set
//! the variables of [`FakeGpu::env`]. Every `FakeGpu` is a machine of its own; nothing is global. A server that
//! "allocates", and a stranger that comes, writes `{"pid":…,"used_bytes":…,"device":0}` into `<state file>.d/<any>.json`.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

const FILE: &str = "libfake_nvml.so";

/// The library as cargo built it beside this test, which has it among its dependencies.
fn library() -> PathBuf {
    profile_dir().join("deps").join(FILE)
}

/// The folder `target/<profile>` of this test: its binary is `target/<profile>/deps/it-<hash>`.
fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    test.ancestors()
        .nth(2)
        .expect("a test binary lies in target/<profile>/deps")
        .to_owned()
}

/// One machine with fake devices.
pub(crate) struct FakeGpu {
    folder: tempfile::TempDir,
}

impl FakeGpu {
    /// One idle device with the library's defaults (an H100 with 80 GB).
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::copy(library(), folder.path().join(FILE)).expect("the library can be copied");
        let fake = Self { folder };
        fs::create_dir(fake.allocations()).expect("a folder for allocations");
        fake.set(&json!({}));
        fake
    }

    /// The library to open.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// The state file.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.folder.path().join("state.json")
    }

    /// What a child process needs in its environment to see this GPU.
    pub(crate) fn env(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("BENCHD_NVML_LIB", self.library()),
            ("FAKE_NVML_STATE", self.state_path()),
        ]
    }

    /// Replaces the whole state; what is left out is as by default (see `tests/fake-nvml/src/state.rs`).
    pub(crate) fn set(&self, state: &Value) {
        replace(&self.state_path(), state);
    }

    /// Process `pid` holds memory on device 0 from now on.
    pub(crate) fn hold(&self, pid: u32, used_bytes: u64) {
        self.hold_on(0, pid, used_bytes);
    }

    /// As [`FakeGpu::hold`], on another device.
    pub(crate) fn hold_on(&self, device: usize, pid: u32, used_bytes: u64) {
        let held = json!({ "pid": pid, "used_bytes": used_bytes, "device": device });
        replace(&self.allocations().join(format!("{pid}.json")), &held);
    }

    /// As [`FakeGpu::hold`], and NVML does not tell how much.
    pub(crate) fn hold_untold(&self, pid: u32, used_bytes: u64) {
        let held = json!({ "pid": pid, "used_bytes": used_bytes, "untold": true });
        replace(&self.allocations().join(format!("{pid}.json")), &held);
    }

    /// What process `pid` held is given back.
    pub(crate) fn free(&self, pid: u32) {
        fs::remove_file(self.allocations().join(format!("{pid}.json"))).expect("the process held memory");
    }

    /// The NVML functions called so far, in order; only while the state says `"record_calls": true`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("state.json.calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Removes functions from the library, as an older driver lacks them. Before it is opened.
    ///
    /// The loader looks a name up by its hash and then compares the text, so another text of the same length
    /// in the table of names makes it a name that is not there.
    pub(crate) fn without(&self, functions: &[&str]) {
        let mut bytes = fs::read(self.library()).expect("the library can be read");
        for function in functions {
            let needle: Vec<u8> = [b"\0", function.as_bytes(), b"\0"].concat();
            let mut found = 0;
            let mut from = 0;
            while let Some(at) = bytes[from..]
                .windows(needle.len())
                .position(|window| window == needle)
            {
                bytes[from + at + 1] = b'X';
                from += at + 1;
                found += 1;
            }
            assert!(found > 0, "the library has no {function}");
        }
        fs::write(self.library(), bytes).expect("the library can be written");
    }

    fn allocations(&self) -> PathBuf {
        self.folder.path().join("state.json.d")
    }
}

/// Writes a whole file at once, so that a reader sees the old or the new one.
fn replace(path: &Path, content: &Value) {
    let new = path.with_extension("new");
    let mut file = File::create(&new).expect("the file can be made");
    file.write_all(content.to_string().as_bytes())
        .expect("the file can be written");
    fs::rename(&new, path).expect("the file can be replaced");
}
