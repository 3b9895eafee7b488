//! The sampler: ticks, holes, drops, events, and its end.

use std::time::Duration;

use benchd_core::record::{GpuProcess, GpuSample, ThrottleReason};
use benchd_host::gpu::{Gpu, GpuEvent, Sampling};
use benchd_plan::{DeviceSelector, GpuSelection};
use serde_json::json;
use tokio::sync::mpsc;

use super::{GIB, INIT, PATIENCE, Server, open};
use crate::support::fake_nvml::FakeGpu;

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
    let (settings, mut samples, _events) = sampling(4096);
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
    let (settings, mut samples, _events) = sampling(4096);
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
    let slow = "nvmlDeviceGetTemperature";
    fake.set(&json!({ "delay_ms": { slow: 35 }, "record_calls": true }));
    let gpu = open(&fake);
    let (settings, mut samples, _events) = sampling(1);
    gpu.start_sampling(settings).expect("the thread lives");
    while fake.calls().iter().filter(|call| *call == slow).count() < 4 {
        gpu.used_bytes()
            .await
            .expect("commands are answered while sampling");
    }
    let report = gpu.stop_sampling().await.expect("the thread lives");
    assert!(
        report.ticks >= 4 && report.missed >= 3 * report.ticks,
        "{report:?}"
    );
    assert_eq!(
        (report.samples, report.dropped),
        (1, report.ticks - 1),
        "{report:?}"
    );
    let sample = next(samples.recv()).await;
    assert!(sample.took_us >= 35_000, "{}", sample.took_us);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_not_starve_the_sampler() {
    let fake = FakeGpu::new();
    // A call that only commands make: while one is answered, the next ones queue up.
    fake.set(&json!({ "delay_ms": { "nvmlDeviceGetGraphicsRunningProcesses_v3": 3 } }));
    let gpu = open(&fake);
    let (settings, mut samples, _events) = sampling(4096);
    gpu.start_sampling(settings).expect("the thread lives");
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let gpu = gpu.clone();
            tokio::spawn(async move { while gpu.used_bytes().await.is_ok() {} })
        })
        .collect();
    for _ in 0..20 {
        next(samples.recv()).await;
    }
    for asker in askers {
        asker.abort();
    }
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
    let lost = json!([{ "uuid": "GPU-a" }, { "uuid": "GPU-b", "lost": true }]);
    fake.set(&json!({ "devices": lost, "record_calls": true }));
    let event = next(events.recv()).await;
    assert!(
        matches!(&event, GpuEvent::Lost { device: 1, detail } if detail.contains("fell off")),
        "{event:?}"
    );
    // The other device is sampled all the time, the lost one is asked again now and then.
    let mut healthy = 0;
    while healthy < 80 {
        healthy += usize::from(next(samples.recv()).await.device == 0);
    }
    assert!(events.try_recv().is_err(), "told once");
    // The first call of a sample fails on the lost device; the later ones are made on the other one only.
    let calls = fake.calls();
    let count = |function| calls.iter().filter(|call| *call == function).count();
    let on_lost = count("nvmlDeviceGetMemoryInfo_v2").saturating_sub(count("nvmlDeviceGetTemperature"));
    assert!(
        on_lost < healthy / 4,
        "{on_lost} calls on the lost device beside {healthy} samples"
    );
    fake.set(&json!({ "devices": [{ "uuid": "GPU-a" }, { "uuid": "GPU-b" }] }));
    assert_eq!(next(events.recv()).await, GpuEvent::Back { device: 1 });
}

#[tokio::test]
async fn a_stranger_is_told_when_it_comes_and_goes_and_the_server_never() {
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
    let GpuEvent::StrangerCame(stranger) = event else {
        panic!("{event:?}")
    };
    assert_eq!((stranger.pid, stranger.used_bytes), (INIT, Some(GIB)));
    assert!(stranger.name.is_some());
    for _ in 0..5 {
        next(samples.recv()).await;
    }
    assert!(events.try_recv().is_err(), "told once");
    fake.free(INIT);
    assert_eq!(next(events.recv()).await, GpuEvent::StrangerLeft(stranger));
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
