//! The GPU room on the fake NVML library: the whole way from a C call to a verdict.

use std::{
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use benchd::{
    gpu::{Gpu, GpuError, GpuEvent, Held, HeldReason, Placement, Sampling, Witness, prove_release},
    plan::{DeviceSelector, GpuSelection},
    record::{GpuProcess, GpuSample, ThrottleReason},
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::fake_nvml::FakeGpu;

const GIB: u64 = 1 << 30;
const TOLERANCE: u64 = 64 << 20;
/// Long enough for anything that must come; nothing is asserted about how soon it does.
const PATIENCE: Duration = Duration::from_secs(60);
/// For what must not come back.
const SHORT: Duration = Duration::from_millis(200);
/// A process that is always there and never ours.
const INIT: u32 = 1;

fn index(index: u32) -> GpuSelection {
    GpuSelection::Devices(vec![DeviceSelector::Index(index)])
}

fn uuid(uuid: &str) -> GpuSelection {
    GpuSelection::Devices(vec![DeviceSelector::Uuid(uuid.to_owned())])
}

fn open(fake: &FakeGpu) -> Gpu {
    Gpu::open(&index(0), Some(&fake.library())).expect("the fake GPU opens")
}

fn refused(fake: &FakeGpu, selection: &GpuSelection) -> GpuError {
    Gpu::open(selection, Some(&fake.library())).expect_err("the GPU must be refused")
}

/// A process of ours; ended when dropped.
struct Server(Child);

impl Server {
    fn start() -> Self {
        Self(
            Command::new("sleep")
                .arg("600")
                .spawn()
                .expect("sleep can be started"),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn pids(&self) -> Vec<i32> {
        vec![i32::try_from(self.pid()).expect("a pid fits")]
    }

    fn end(&mut self) {
        self.0.kill().expect("our child can be killed");
        self.0.wait().expect("our child can be waited for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}

async fn prove(gpu: &Gpu, ours: &[i32], timeout: Duration) -> Result<benchd::gpu::ReleaseProof, Held> {
    prove_release(gpu, ours, &[0], TOLERANCE, timeout).await
}

#[tokio::test]
async fn without_a_gpu_nothing_is_opened() {
    let gpu =
        Gpu::open(&GpuSelection::None, Some(Path::new("/nonexistent/nvml.so"))).expect("none needs none");
    assert_eq!(gpu.host(), None);
    assert_eq!(gpu.uuids(), Vec::<String>::new());
    assert_eq!(gpu.used_bytes().await, Ok(vec![]));
    assert_eq!(gpu.processes().await, Ok(vec![]));
    assert_eq!(gpu.devices_of(&[1]).await, Ok(None));
    let proof = prove_release(&gpu, &[1], &[], 0, Duration::ZERO)
        .await
        .expect("there is nothing to hold");
    assert_eq!(proof.polls, 0);
}

#[test]
fn a_gpu_without_a_library_is_a_clear_error() {
    let error =
        Gpu::open(&index(0), Some(Path::new("/nonexistent/libnvidia-ml.so.1"))).expect_err("no library");
    let text = error.to_string();
    assert!(
        text.starts_with(
            "the plan chooses a GPU, but the NVML library /nonexistent/libnvidia-ml.so.1 can't be loaded: "
        ),
        "{text}"
    );
    assert!(text.contains("No such file"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`gpu: none`")));
}

#[test]
fn what_init_answers_is_told_apart() {
    let fake = FakeGpu::new();
    let at_init = |code: &str| {
        fake.set(&json!({ "fail": { "nvmlInit_v2": code } }));
        refused(&fake, &index(0))
    };
    assert!(matches!(
        at_init("LIB_RM_VERSION_MISMATCH"),
        GpuError::VersionMismatch { .. }
    ));
    assert!(matches!(at_init("NO_PERMISSION"), GpuError::NoPermission { .. }));
    assert!(matches!(
        at_init("DRIVER_NOT_LOADED"),
        GpuError::DriverNotLoaded { .. }
    ));
    assert!(matches!(
        at_init("LIBRARY_NOT_FOUND"),
        GpuError::LibraryMissing { .. }
    ));
    assert!(matches!(
        at_init("UNKNOWN"),
        GpuError::Call {
            call: "nvmlInit_v2",
            ..
        }
    ));
}

#[test]
fn a_library_that_is_no_nvml_is_refused() {
    let fake = FakeGpu::new();
    fake.without(&["nvmlInit_v2"]);
    let error = refused(&fake, &index(0));
    assert!(
        matches!(&error, GpuError::NotNvml { detail, .. } if detail.contains("nvmlInit_v2")),
        "{error}"
    );
}

#[test]
fn a_device_that_is_not_there_is_answered_with_those_that_are() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a", "name": "A100" }, { "uuid": "GPU-b", "name": "T4" }] }));
    assert_eq!(
        refused(&fake, &index(7)).to_string(),
        "there is no GPU 7; there are 0: A100 (GPU-a), 1: T4 (GPU-b)"
    );
    assert_eq!(
        refused(&fake, &uuid("GPU-z")).to_string(),
        "there is no GPU GPU-z; there are 0: A100 (GPU-a), 1: T4 (GPU-b)"
    );
    let twice = GpuSelection::Devices(vec![
        DeviceSelector::Index(1),
        DeviceSelector::Uuid("GPU-b".to_owned()),
    ]);
    assert_eq!(
        refused(&fake, &twice),
        GpuError::NamedTwice {
            uuid: "GPU-b".to_owned()
        }
    );
    fake.set(&json!({ "devices": [] }));
    assert_eq!(
        refused(&fake, &index(0)).to_string(),
        "there is no GPU 0; there are none"
    );
}

#[test]
fn a_device_that_can_not_be_used_is_told_apart() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "lost": true }));
    assert!(matches!(refused(&fake, &index(0)), GpuError::Lost { .. }));
    fake.set(&json!({ "fail": { "nvmlDeviceGetHandleByIndex_v2": "NO_PERMISSION" } }));
    assert!(matches!(refused(&fake, &index(0)), GpuError::NoPermission { .. }));
    fake.set(&json!({ "fail": { "nvmlDeviceGetHandleByIndex_v2": "UNKNOWN" } }));
    assert!(matches!(refused(&fake, &index(0)), GpuError::Call { .. }));
    fake.set(&json!({}));
    fake.without(&["nvmlDeviceGetMemoryInfo_v2"]);
    let old = refused(&fake, &index(0));
    assert!(
        matches!(
            old,
            GpuError::Unanswered {
                call: "nvmlDeviceGetMemoryInfo_v2",
                ..
            }
        ),
        "{old}"
    );
}

#[test]
fn the_inventory_is_what_the_driver_says() {
    let fake = FakeGpu::new();
    fake.set(&json!({
        "driver": "570.86.10", "nvml": "12.570.86.10", "cuda": 12080,
        "devices": [{}, {
            "uuid": "GPU-b", "name": "NVIDIA A100", "pci_bus_id": "00000000:81:00.0", "total_bytes": 80 * GIB,
            "base_used_bytes": GIB, "power_limit_mw": 400_000, "sm_clock_max_mhz": 1410, "ecc_uncorrected": 3,
        }],
    }));
    let gpu = Gpu::open(&uuid("GPU-b"), Some(&fake.library())).expect("the fake GPU opens");
    let host = gpu.host().expect("a GPU was chosen");
    assert_eq!(host.driver, "570.86.10");
    assert_eq!(host.cuda.as_deref(), Some("12.8"));
    assert_eq!(host.nvml.as_deref(), Some("12.570.86.10"));
    let [device] = host.devices.as_slice() else {
        panic!("{host:?}")
    };
    assert_eq!(
        (device.index, device.uuid.as_str(), device.name.as_str()),
        (1, "GPU-b", "NVIDIA A100")
    );
    assert_eq!(
        (device.memory_total_bytes, device.memory_used_bytes),
        (80 * GIB, GIB)
    );
    assert_eq!(
        (device.power_limit_mw, device.sm_clock_max_mhz),
        (Some(400_000), Some(1410))
    );
    assert_eq!(device.pci_bus_id.as_deref(), Some("00000000:81:00.0"));
    assert_eq!((device.mig, device.ecc_uncorrected), (Some(false), Some(3)));
    assert_eq!(gpu.uuids(), ["GPU-b"]);
}

#[test]
fn what_a_device_does_not_have_is_absent_and_no_error() {
    let fake = FakeGpu::new();
    fake.set(&json!({
        "fail": { "nvmlDeviceGetEnforcedPowerLimit": "NOT_SUPPORTED", "nvmlSystemGetNVMLVersion": "UNKNOWN" },
        "devices": [{ "mig": null, "ecc_uncorrected": null }],
    }));
    fake.without(&[
        "nvmlDeviceGetMaxClockInfo",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceIsMigDeviceHandle",
    ]);
    let gpu = open(&fake);
    let host = gpu.host().expect("a GPU was chosen");
    assert_eq!((&host.cuda, &host.nvml), (&None, &None));
    let device = &host.devices[0];
    assert_eq!((device.power_limit_mw, device.sm_clock_max_mhz), (None, None));
    assert_eq!((device.mig, device.ecc_uncorrected), (None, None));
}

#[test]
fn several_devices_keep_the_plans_order() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b" }, { "uuid": "GPU-c" }] }));
    let selection = GpuSelection::Devices(vec![DeviceSelector::Index(2), DeviceSelector::Index(0)]);
    let gpu = Gpu::open(&selection, Some(&fake.library())).expect("the fake GPU opens");
    assert_eq!(gpu.uuids(), ["GPU-c", "GPU-a"]);
}

#[tokio::test]
async fn a_mig_instance_is_a_device_alone() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [
        { "uuid": "GPU-a" },
        { "uuid": "GPU-b", "mig": true, "mig_uuids": ["MIG-1", "MIG-2"], "base_used_bytes": GIB },
    ] }));
    let gpu = Gpu::open(&uuid("MIG-2"), Some(&fake.library())).expect("the instance opens");
    let device = &gpu.host().expect("a GPU was chosen").devices[0];
    assert_eq!(
        (device.index, device.uuid.as_str(), device.mig),
        (1, "MIG-2", Some(true))
    );
    assert_eq!(device.power_limit_mw, None, "power is the whole GPU's");
    assert_eq!(gpu.used_bytes().await, Ok(vec![GIB]));
    let two = ["MIG-1", "MIG-2"]
        .map(|uuid| DeviceSelector::Uuid(uuid.to_owned()))
        .to_vec();
    assert!(matches!(
        refused(&fake, &GpuSelection::Devices(two)),
        GpuError::MigBesideOthers { .. }
    ));
}

#[tokio::test]
async fn processes_have_names_and_memory_where_they_can_be_known() {
    let fake = FakeGpu::new();
    let server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    let expected = GpuProcess {
        pid: server.pid(),
        device: 0,
        used_bytes: Some(GIB),
        name: Some("sleep".to_owned()),
    };
    assert_eq!(gpu.processes().await, Ok(vec![expected.clone()]));
    fake.set(&json!({ "hide_process_memory": true }));
    assert_eq!(
        gpu.processes().await,
        Ok(vec![GpuProcess {
            used_bytes: None,
            ..expected
        }])
    );
    fake.set(&json!({ "devices": [{ "processes": [{ "pid": 4_000_000_000_u32, "used_bytes": 1 }] }] }));
    let processes = gpu.processes().await.expect("processes are listed");
    assert_eq!(
        processes[0].name, None,
        "a pid of another namespace has no name here"
    );
    fake.set(&json!({ "lost": true }));
    assert!(matches!(gpu.processes().await, Err(GpuError::Lost { .. })));
    assert!(matches!(gpu.used_bytes().await, Err(GpuError::Lost { .. })));
}

#[tokio::test]
async fn a_server_on_another_device_is_astray() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b" }] }));
    let server = Server::start();
    let gpu = open(&fake);
    let placement = async || {
        gpu.devices_of(&server.pids())
            .await
            .expect("NVML answers")
            .expect("a GPU is chosen")
    };
    assert!(matches!(placement().await, Placement::NotListed { .. }));
    fake.hold_on(0, server.pid(), GIB);
    assert_eq!(placement().await, Placement::OnChosen(vec![0]));
    fake.hold_on(1, server.pid(), GIB);
    assert!(matches!(placement().await, Placement::Astray(found) if found[0].device == 1));
}

/// A sampler with its two receivers.
fn sampling(
    capacity: usize,
) -> (
    Sampling,
    mpsc::Receiver<GpuSample>,
    mpsc::UnboundedReceiver<GpuEvent>,
) {
    let (samples, samples_in) = mpsc::channel(capacity);
    let (events, events_in) = mpsc::unbounded_channel();
    let period = Duration::from_millis(10);
    (
        Sampling {
            period,
            samples,
            events,
            baseline: Vec::new(),
        },
        samples_in,
        events_in,
    )
}

async fn next<T>(what: impl Future<Output = Option<T>>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it comes")
        .expect("the sampler runs")
}

#[tokio::test]
async fn a_sample_holds_what_the_device_says() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [{
        "base_used_bytes": GIB, "util_gpu_pct": 97, "util_memory_pct": 41, "power_mw": 655_000, "energy_mj": 12_345,
        "energy_runs": true, "sm_clock_mhz": 1755, "memory_clock_mhz": 2619, "temperature_c": 66,
        "throttle": 0x4 | 0x8000,
    }] }));
    let server = Server::start();
    fake.hold(server.pid(), 2 * GIB);
    let gpu = open(&fake);
    let (settings, mut samples, _events) = sampling(64);
    gpu.start_sampling(settings).expect("the thread lives");
    let first = next(samples.recv()).await;
    assert_eq!(first.device, 0);
    assert_eq!(first.memory_used_bytes, Some(3 * GIB));
    assert_eq!(first.memory_reserved_bytes, Some(503_316_480));
    assert_eq!((first.util_gpu_pct, first.util_memory_pct), (Some(97), Some(41)));
    assert_eq!(first.power_mw, Some(655_000));
    assert_eq!(
        (first.sm_clock_mhz, first.memory_clock_mhz),
        (Some(1755), Some(2619))
    );
    assert_eq!(first.temperature_c, Some(66));
    assert_eq!(
        first.throttle,
        Some(vec![ThrottleReason::SwPowerCap, ThrottleReason::Unknown])
    );
    let processes = first.processes.expect("processes are listed");
    assert_eq!(
        (processes[0].pid, processes[0].used_bytes),
        (server.pid(), Some(2 * GIB))
    );
    assert!(first.took_us > 0);
    assert_eq!(first.errors, Vec::<String>::new());
    let second = next(samples.recv()).await;
    assert!(second.unix_us > first.unix_us);
    assert!(second.energy_mj > first.energy_mj);
    let report = gpu.stop_sampling().await.expect("the thread lives");
    assert!(report.ticks >= 2 && report.samples == report.ticks, "{report:?}");
    assert!(report.ours_listed);
    assert_eq!(report.errors.len(), 0);
    while samples.recv().await.is_some() {}
}

#[tokio::test]
async fn a_failing_call_leaves_a_hole_and_one_line() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "fail": {
        "nvmlDeviceGetPowerUsage": "NOT_SUPPORTED", "nvmlDeviceGetTemperature": "TIMEOUT",
    } }));
    fake.without(&["nvmlDeviceGetTotalEnergyConsumption"]);
    let gpu = open(&fake);
    let (settings, mut samples, _events) = sampling(64);
    gpu.start_sampling(settings).expect("the thread lives");
    let first = next(samples.recv()).await;
    assert_eq!(
        (first.power_mw, first.temperature_c, first.energy_mj),
        (None, None, None)
    );
    assert_eq!(first.sm_clock_mhz, Some(345), "the other values are there");
    assert_eq!(first.errors.len(), 3, "{:?}", first.errors);
    assert!(
        first.errors[0].starts_with("nvmlDeviceGetPowerUsage: the requested operation"),
        "{:?}",
        first.errors
    );
    assert!(first.errors[1].contains("undefined symbol: nvmlDeviceGetTotalEnergyConsumption"));
    let second = next(samples.recv()).await;
    assert_eq!(second.power_mw, None);
    assert_eq!(
        second.errors,
        Vec::<String>::new(),
        "the same error is not written again"
    );
    fake.set(&json!({}));
    while next(samples.recv()).await.power_mw != Some(70_000) {}
    let report = gpu.stop_sampling().await.expect("the thread lives");
    assert!(
        report.errors["device 0 nvmlDeviceGetPowerUsage"] >= 2,
        "{report:?}"
    );
}

#[tokio::test]
async fn slow_calls_and_a_full_channel_cost_samples_and_are_counted() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "delay_ms": { "nvmlDeviceGetTemperature": 35 } }));
    let gpu = open(&fake);
    let (settings, mut samples, _events) = sampling(1);
    gpu.start_sampling(settings).expect("the thread lives");
    // Each answer comes after at least one more tick.
    for _ in 0..4 {
        gpu.used_bytes()
            .await
            .expect("commands are answered while sampling");
    }
    let report = gpu.stop_sampling().await.expect("the thread lives");
    assert!(report.missed >= 3 * report.ticks, "{report:?}");
    assert_eq!(
        (report.samples, report.dropped),
        (1, report.ticks - 1),
        "{report:?}"
    );
    let sample = next(samples.recv()).await;
    assert!(sample.took_us >= 35_000, "{}", sample.took_us);
}

#[tokio::test]
async fn a_sampler_without_a_listener_ends() {
    let fake = FakeGpu::new();
    let gpu = open(&fake);
    let (settings, samples, mut events) = sampling(1);
    drop(samples);
    gpu.start_sampling(settings).expect("the thread lives");
    let ended = tokio::time::timeout(PATIENCE, events.recv())
        .await
        .expect("it ends");
    assert_eq!(ended, None, "the sampler dropped its channels");
    assert_eq!(gpu.used_bytes().await, Ok(vec![0]), "the thread goes on");
}

#[tokio::test]
async fn a_device_lost_in_mid_run_is_told_once() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b" }] }));
    let selection = GpuSelection::Devices(vec![DeviceSelector::Index(0), DeviceSelector::Index(1)]);
    let gpu = Gpu::open(&selection, Some(&fake.library())).expect("the fake GPU opens");
    let (settings, mut samples, mut events) = sampling(4096);
    gpu.start_sampling(settings).expect("the thread lives");
    next(samples.recv()).await;
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b", "lost": true }] }));
    let event = next(events.recv()).await;
    assert!(
        matches!(&event, GpuEvent::Lost { device: 1, detail } if detail.contains("fell off")),
        "{event:?}"
    );
    // The other device is sampled all the time, the lost one is asked again later.
    let mut healthy = 0;
    while healthy < 80 {
        healthy += u32::from(next(samples.recv()).await.device == 0);
    }
    assert!(events.try_recv().is_err(), "told once");
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b" }] }));
    assert_eq!(next(events.recv()).await, GpuEvent::Back { device: 1 });
}

#[tokio::test]
async fn a_stranger_is_reported_once_and_the_server_never() {
    let fake = FakeGpu::new();
    let server = Server::start();
    let gpu = open(&fake);
    gpu.ours().expect("a GPU is chosen").set(server.pids());
    let (settings, mut samples, mut events) = sampling(4096);
    let baseline = GpuProcess {
        pid: 4_000_000_000,
        device: 0,
        used_bytes: None,
        name: None,
    };
    gpu.start_sampling(Sampling {
        baseline: vec![baseline],
        ..settings
    })
    .expect("the thread lives");
    fake.set(&json!({ "devices": [{ "processes": [{ "pid": 4_000_000_000_u32, "used_bytes": 1 }] }] }));
    fake.hold(server.pid(), GIB);
    while next(samples.recv())
        .await
        .processes
        .is_none_or(|processes| processes.len() < 2)
    {}
    assert!(
        events.try_recv().is_err(),
        "neither the server nor the baseline is a stranger"
    );
    fake.hold(INIT, GIB);
    let event = next(events.recv()).await;
    let GpuEvent::Stranger(stranger) = event else {
        panic!("{event:?}")
    };
    assert_eq!((stranger.process.pid, stranger.visible), (INIT, true));
    assert!(stranger.process.name.is_some());
    for _ in 0..5 {
        next(samples.recv()).await;
    }
    assert!(events.try_recv().is_err(), "told once");
}

#[tokio::test]
async fn memory_that_comes_back_late_is_waited_for() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "reap_dead_after_ms": 250 }));
    let mut server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    assert_eq!(gpu.used_bytes().await, Ok(vec![GIB]));
    assert_eq!(
        gpu.devices_of(&server.pids()).await,
        Ok(Some(Placement::OnChosen(vec![0])))
    );
    server.end();
    let proof = prove(&gpu, &server.pids(), PATIENCE)
        .await
        .expect("it comes back");
    assert!(proof.took >= Duration::from_millis(200), "{proof:?}");
    assert!(proof.polls > 1, "{proof:?}");
    assert_eq!((proof.used_bytes, proof.baseline_bytes), (vec![0], vec![0]));
    assert_eq!(proof.witness, Witness::MemoryAndProcesses);
}

#[tokio::test]
async fn memory_that_never_comes_back_is_held() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "never_release": true }));
    let mut server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    server.end();
    let held = prove(&gpu, &server.pids(), SHORT).await.expect_err("it stays");
    assert_eq!(
        (&held.reason, &held.used_bytes),
        (&HeldReason::Nobody, &vec![Some(GIB)])
    );
    assert!(held.waited >= SHORT);
    assert!(
        held.to_string().ends_with("NVML lists no process that holds it"),
        "{held}"
    );
    // A driver that still lists the dead process: it is named.
    fake.set(&json!({ "never_release": true, "list_dead": true }));
    let held = prove(&gpu, &server.pids(), SHORT).await.expect_err("it stays");
    assert_eq!(held.reason, HeldReason::OurProcesses);
    assert_eq!(held.holders[0].pid, server.pid());
}

#[tokio::test]
async fn a_process_of_ours_that_lives_on_is_named() {
    let fake = FakeGpu::new();
    let server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    // Not in the list, but a child of this process: a worker that the inventory missed.
    let held = prove(&gpu, &[], SHORT).await.expect_err("it lives");
    assert_eq!(held.reason, HeldReason::OurProcesses);
    assert!(
        held.to_string()
            .contains(&format!("pid {} (sleep, 1024 MiB)", server.pid())),
        "{held}"
    );
    fake.free(server.pid());
    prove(&gpu, &server.pids(), PATIENCE)
        .await
        .expect("it gave its memory back");
}

#[tokio::test]
async fn a_stranger_that_holds_memory_is_named() {
    let fake = FakeGpu::new();
    fake.hold(INIT, GIB);
    let gpu = open(&fake);
    let held = prove(&gpu, &[12_345_678], SHORT)
        .await
        .expect_err("a stranger holds it");
    assert_eq!(held.reason, HeldReason::Strangers);
    assert_eq!(held.holders[0].pid, INIT);
    // The same stranger in the baseline does no harm.
    prove_release(&gpu, &[12_345_678], &[GIB], TOLERANCE, PATIENCE)
        .await
        .expect("only the baseline is used");
    prove_release(&gpu, &[], &[5 * GIB], TOLERANCE, PATIENCE)
        .await
        .expect("less than the baseline is used");
}

#[tokio::test]
async fn where_processes_are_not_listed_memory_alone_proves_and_this_is_said() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "hide_processes": true, "reap_dead_after_ms": 0 }));
    let mut server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    let placement = gpu.devices_of(&server.pids()).await.expect("NVML answers");
    assert!(
        matches!(placement, Some(Placement::NotListed { .. })),
        "{placement:?}"
    );
    server.end();
    let proof = prove(&gpu, &server.pids(), PATIENCE)
        .await
        .expect("it comes back");
    assert_eq!(
        proof.witness,
        Witness::MemoryOnly {
            why: "NVML lists no compute process at all".to_owned()
        }
    );
    fake.set(&json!({ "fail": { "nvmlDeviceGetComputeRunningProcesses_v3": "NOT_SUPPORTED" }, "reap_dead_after_ms": 0 }));
    let proof = prove(&gpu, &server.pids(), PATIENCE)
        .await
        .expect("memory is back");
    assert!(
        matches!(&proof.witness, Witness::MemoryOnly { why } if why.starts_with("GPU 0: nvml")),
        "{proof:?}"
    );
}

#[tokio::test]
async fn a_device_lost_at_the_proof_is_held_at_once() {
    let fake = FakeGpu::new();
    let gpu = open(&fake);
    fake.set(&json!({ "lost": true }));
    let held = prove(&gpu, &[], PATIENCE)
        .await
        .expect_err("nothing can be known");
    assert!(
        matches!(held.reason, HeldReason::DeviceLost { device: 0, .. }),
        "{held:?}"
    );
    assert!(held.waited < PATIENCE, "it was not waited for");
}

#[tokio::test]
async fn failing_calls_are_made_again_and_named() {
    let fake = FakeGpu::new();
    let gpu = open(&fake);
    let memory = "nvmlDeviceGetMemoryInfo_v2";
    fake.set(&json!({ "fail": { memory: "TIMEOUT" }, "record_calls": true }));
    let proving = tokio::spawn({
        let gpu = gpu.clone();
        async move { prove(&gpu, &[], PATIENCE).await }
    });
    while fake.calls().iter().filter(|call| *call == memory).count() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fake.set(&json!({}));
    let proof = proving.await.expect("no panic").expect("NVML answers again");
    assert_eq!(
        proof.retried,
        [format!("GPU 0: {memory}: the provided timeout was reached")]
    );
    fake.set(&json!({ "fail": { memory: "TIMEOUT" } }));
    let held = prove(&gpu, &[], SHORT).await.expect_err("NVML does not answer");
    assert!(
        matches!(&held.reason, HeldReason::NoAnswer { detail } if detail.contains(memory)),
        "{held:?}"
    );
    assert_eq!(held.used_bytes, [None]);
}

#[tokio::test]
async fn a_call_that_hangs_does_not_hang_the_proof() {
    let fake = FakeGpu::new();
    let gpu = open(&fake);
    fake.set(&json!({ "delay_ms": { "nvmlDeviceGetMemoryInfo_v2": 600_000 } }));
    let held = prove(&gpu, &[], SHORT).await.expect_err("NVML hangs");
    assert!(
        held.to_string().contains("NVML has not returned from a call"),
        "{held}"
    );
}

#[tokio::test]
async fn the_thread_ends_with_its_last_handle() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "record_calls": true }));
    let gpu = open(&fake);
    let other = gpu.clone();
    let (settings, _samples, mut events) = sampling(4096);
    gpu.start_sampling(settings).expect("the thread lives");
    drop(gpu);
    other.used_bytes().await.expect("one handle is left");
    drop(other);
    assert_eq!(
        tokio::time::timeout(PATIENCE, events.recv())
            .await
            .expect("the sampler ends"),
        None
    );
    while !fake.calls().iter().any(|call| call == "nvmlShutdown") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_child_process_finds_the_fake_by_its_environment() {
    let fake = FakeGpu::new();
    let names: Vec<_> = fake.env().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["BENCHD_NVML_LIB", "FAKE_NVML_STATE"]);
    // This test again, as a child with the environment.
    if std::env::var_os("BENCHD_NVML_LIB").is_some() {
        let gpu = Gpu::open(&index(0), None).expect("the library is found by the environment");
        assert_eq!(
            gpu.host().expect("a GPU was chosen").devices[0].name,
            "by environment"
        );
        return;
    }
    fake.set(&json!({ "devices": [{ "name": "by environment" }] }));
    let output = Command::new(std::env::current_exe().expect("the test knows its own path"))
        .args([
            "--exact",
            "gpu::a_child_process_finds_the_fake_by_its_environment",
        ])
        .envs(fake.env())
        .output()
        .expect("the test can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
