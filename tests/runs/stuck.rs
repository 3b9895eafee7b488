//! A process that no signal ends: it waits in the kernel for a disk that does not answer, uninterruptibly.
//!
//! The disk is a FUSE mount of the test's own which takes a request and never answers it: what such a request waits
//! for can't be broken off, by KILL neither, until the mount is given up.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

use benchd_journal::RunState;
use serde_json::json;

use crate::bench::{Bench, until};

/// Operation of the first request that a kernel sends on a mount.
const INIT: u32 = 26;

/// A mount on which everybody hangs who looks at a file in it.
struct HungDisk {
    at: PathBuf,
    /// The pid whose request was taken.
    taken: mpsc::Receiver<i32>,
}

impl HungDisk {
    /// `None` where this machine does not let the test mount.
    fn mount(at: PathBuf) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .args(["fd=0,rootmode=40000,user_id=0,group_id=0", "hung-disk"])
            .arg(&at)
            .stdin(Stdio::from(device.try_clone().unwrap()))
            .output();
        if !mounted.is_ok_and(|mount| mount.status.success()) {
            return None;
        }
        let (tell, taken) = mpsc::channel();
        std::thread::spawn(move || serve(device, &tell));
        Some(Self { at, taken })
    }

    /// Gives the mount up: whoever waits for it gets an error, and ends if it was killed.
    fn give_up(&self) {
        for flag in ["-f", "-l"] {
            let _ = Command::new("umount").arg(flag).arg(&self.at).output();
        }
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Answers the kernel's greeting, takes one request, and reads no more, so that others can still be killed.
fn serve(mut device: File, tell: &mpsc::Sender<i32>) {
    let mut request = [0; 1 << 16];
    loop {
        let Ok(n) = device.read(&mut request) else { return };
        let field = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(n >= 40, "a request without its head");
        if field(4) != INIT {
            let _ = tell.send(i32::try_from(field(32)).unwrap());
            // The mount lives as long as its device is open.
            std::thread::park();
            return;
        }
        // Length, no error, the request's number; version 7.31, at most 4096 bytes a write, nanoseconds.
        let mut answer = vec![0; 16 + 64];
        answer[0..4].copy_from_slice(&80_u32.to_ne_bytes());
        answer[8..16].copy_from_slice(&request[8..16]);
        for (at, value) in [(16, 7_u32), (20, 31), (36, 4096), (40, 1)] {
            answer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        device.write_all(&answer).unwrap();
    }
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_process_that_cannot_be_killed_is_named_and_stops_the_run_until_it_is_gone() {
    let bench = Bench::new()
        .server(
            "stuck",
            json!({
                "command": ["sh", "-c",
                    "cat disk/file & exec \"$0\" sim --host \"$1\" --port \"$2\" --model sim --decode-rate 1000",
                    env!("CARGO_BIN_EXE_benchd"), "{host}", "{port}"],
                "stop_grace": "300ms",
            }),
        )
        .sim("last", &[]);
    let Some(disk) = HungDisk::mount(bench.path().join("disk")) else {
        eprintln!("SKIPPED: nothing can be mounted here (root and /dev/fuse), so nobody can be stuck");
        return;
    };
    let run = bench.start(&[]);
    let pid = disk.taken.recv_timeout(crate::bench::SAFETY).unwrap();
    let ended = run.wait();
    assert_eq!(state(pid), Some('D'), "\n{}", ended.stderr);
    ended.assert_code(4);
    let named = format!("{pid} (cat), state D (uninterruptible sleep)");
    ended.assert_failed("stuck", "release", &["could not be killed", &named]);
    let stuck: Vec<i32> = ended.reaped("stuck").stuck.iter().map(|p| p.pid).collect();
    assert_eq!(stuck, [pid]);
    assert_eq!(ended.cells("stuck").len(), 2, "what is measured stays");
    assert!(ended.cells("last").is_empty());
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    ended.assert_folder(RunState::Unsafe);

    // As long as it is there nothing else is started beside it.
    let ended = bench.run(&["--resume"]);
    ended.assert_code(4);
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    assert!(ended.cells("last").is_empty());

    disk.give_up();
    until("its end", || {
        state(pid).is_none_or(|state| state == 'Z').then_some(())
    });
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    bench.only_run();
    for lane in ["stuck", "last"] {
        ended.assert_whole_cells(lane);
    }
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}
