//! The GPU room on a real NVIDIA GPU, with a real program that holds memory (`tests/gpu/alloc_server.py`, needs
//! python3 with torch). Run by hand, from the repository's root, on an idle GPU 0:
//!
//! ```text
//! cargo test --test it gpu::real -- --ignored --nocapture --test-threads 1
//! ```

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use benchd_host::gpu::{
    Baseline, DEFAULT_SAMPLE_PERIOD, Gpu, HeldReason, Placement, Sampling, Witness, prove_release,
};
use benchd_plan::{DeviceSelector, GpuSelection};
use tokio::sync::mpsc;

const MIB: u64 = 1 << 20;
const TOLERANCE: u64 = 64 * MIB;
const TIMEOUT: Duration = Duration::from_secs(60);
const HELD_MIB: u64 = 2048;

struct Server {
    child: Child,
    /// The orphan's pid, where it left one.
    orphan: Option<u32>,
}

impl Server {
    /// Starts the program on device `uuid` and waits until it listens.
    fn start(uuid: &str, more: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args([
                "tests/gpu/alloc_server.py",
                "--model",
                "small",
                "--mib",
                &HELD_MIB.to_string(),
            ])
            .args(more)
            .env("CUDA_VISIBLE_DEVICES", uuid)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 can be started");
        let output = child.stdout.take().expect("stdout is a pipe");
        let mut orphan = None;
        for line in BufReader::new(output).lines() {
            let line = line.expect("the program writes text");
            println!("server: {line}");
            if line.starts_with("orphan:") {
                orphan = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
            }
            if line.starts_with("listening") {
                return Self { child, orphan };
            }
        }
        panic!("the program ended: {:?}", child.wait());
    }

    fn pids(&self) -> Vec<i32> {
        vec![i32::try_from(self.child.id()).expect("a pid fits")]
    }

    fn end(&mut self) {
        end(self.child.id());
        println!(
            "ended: {}",
            self.child.wait().expect("our child can be waited for")
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("our child can be killed");
            self.child.wait().expect("our child can be waited for");
        }
    }
}

fn end(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid fits"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("our process is there");
}

fn open() -> (Gpu, String) {
    let selection = GpuSelection::Devices(vec![DeviceSelector::Index(0)]);
    let gpu = Gpu::open(&selection, None).expect("a real GPU is here");
    let uuid = gpu.uuids().remove(0);
    (gpu, uuid)
}

#[tokio::test]
#[ignore = "needs an idle NVIDIA GPU, and python3 with torch"]
async fn a_real_server_is_seen_and_its_memory_comes_back() {
    let (gpu, uuid) = open();
    println!("{:#?}", gpu.host().expect("a GPU was chosen"));
    let baseline = gpu.used_bytes().await.expect("the GPU answers");
    let before = gpu.processes().await.expect("processes are listed");
    println!("baseline {baseline:?}, processes {before:?}");
    let baseline = Baseline {
        used_bytes: baseline,
        processes: before.clone(),
    };

    let mut server = Server::start(&uuid, &[]);
    let pids = server.pids();
    gpu.ours().expect("a GPU was chosen").set(pids.clone());
    let placement = gpu.placement(&pids).await.expect("NVML answers");
    assert_eq!(placement, Some(Placement::OnChosen(vec![0])));

    let (samples, mut samples_in) = mpsc::channel(1024);
    let (events, mut events_in) = mpsc::unbounded_channel();
    gpu.start_sampling(Sampling {
        period: DEFAULT_SAMPLE_PERIOD,
        samples,
        events,
        baseline: before,
    })
    .expect("the thread lives");
    let mut took_us = Vec::new();
    let mut last = None;
    while took_us.len() < 50 {
        let sample = samples_in.recv().await.expect("the sampler runs");
        assert!(
            sample
                .memory_used_bytes
                .is_some_and(|used| used >= baseline.used_bytes[0] + HELD_MIB * MIB)
        );
        took_us.push(sample.took_us);
        last = Some(sample);
    }
    let sample = last.expect("samples were taken");
    println!("{sample:#?}");
    let held = sample.processes.expect("processes are listed");
    let ours = held
        .iter()
        .find(|process| pids.contains(&i32::try_from(process.pid).unwrap_or(-1)));
    assert!(
        ours.is_some_and(|process| process.used_bytes.is_none_or(|used| used >= HELD_MIB * MIB)),
        "{held:?}"
    );
    took_us.sort_unstable();
    println!(
        "a sample took: median {} us, largest {} us",
        took_us[took_us.len() / 2],
        took_us[took_us.len() - 1]
    );
    let report = gpu.stop_sampling().await.expect("the thread lives");
    println!("{report:#?}");
    assert!(report.ours_listed);
    assert!(events_in.try_recv().is_err(), "nobody else is on an idle GPU");

    server.end();
    let proof = prove_release(&gpu, &pids, &baseline, TOLERANCE, TIMEOUT)
        .await
        .expect("the memory comes back");
    println!("{proof:#?}");
    assert_eq!(proof.witness, Witness::MemoryAndProcesses);
}

#[tokio::test]
#[ignore = "needs an idle NVIDIA GPU, and python3 with torch"]
async fn a_real_orphan_holds_the_memory_and_is_named() {
    let (gpu, uuid) = open();
    let baseline = Baseline {
        used_bytes: gpu.used_bytes().await.expect("the GPU answers"),
        processes: gpu.processes().await.expect("processes are listed"),
    };
    let mut server = Server::start(&uuid, &["--orphan-mib", "1024", "--orphan-session"]);
    let pids = server.pids();
    let orphan = server.orphan.expect("the program left an orphan");
    server.end();
    // By its parent it is nobody's any more: a stranger. In a run, the inventory of descendants would know it.
    let proof = prove_release(&gpu, &pids, &baseline, TOLERANCE, TIMEOUT)
        .await
        .expect("what is left is the orphan's");
    println!("{proof:#?}");
    assert!(
        proof.strangers.iter().any(|other| other.pid == orphan),
        "{proof:?}"
    );
    let known = [pids.clone(), vec![i32::try_from(orphan).expect("a pid fits")]].concat();
    let held = prove_release(&gpu, &known, &baseline, TOLERANCE, Duration::from_secs(3))
        .await
        .expect_err("the orphan holds memory");
    println!("{held}");
    assert_eq!(held.reason, HeldReason::OurProcesses);
    end(orphan);
    let proof = prove_release(&gpu, &pids, &baseline, TOLERANCE, TIMEOUT)
        .await
        .expect("the memory comes back");
    println!("{proof:#?}");
}
