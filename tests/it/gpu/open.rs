//! Opening, inventory, processes, placement.

use std::{path::Path, process::Command, time::Duration};

use benchd_core::record::GpuProcess;
use benchd_host::gpu::{Baseline, Gpu, GpuError, Placement, prove_release};
use benchd_plan::{DeviceSelector, GpuSelection};
use serde_json::json;

use super::{GIB, Server, index, open, refused, uuid};
use crate::support::fake_nvml::FakeGpu;

#[tokio::test]
async fn without_a_gpu_nothing_is_opened() {
    let gpu =
        Gpu::open(&GpuSelection::None, Some(Path::new("/nonexistent/nvml.so"))).expect("none needs none");
    assert_eq!(gpu.host(), None);
    assert_eq!(gpu.uuids(), Vec::<String>::new());
    assert_eq!(gpu.used_bytes().await, Ok(vec![]));
    assert_eq!(gpu.processes().await, Ok(vec![]));
    assert_eq!(gpu.placement(&[1]).await, Ok(None));
    let proof = prove_release(&gpu, &[1], &Baseline::default(), 0, Duration::ZERO)
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
        gpu.placement(&server.pids())
            .await
            .expect("NVML answers")
            .expect("a GPU is chosen")
    };
    assert!(matches!(placement().await, Placement::NotListed { .. }));
    fake.hold_on(0, server.pid(), GIB);
    assert_eq!(placement().await, Placement::OnChosen(vec![0]));
    fake.hold_on(1, server.pid(), GIB);
    assert!(matches!(placement().await, Placement::OnOthers(found) if found[0].device == 1));
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
            "gpu::open::a_child_process_finds_the_fake_by_its_environment",
        ])
        .envs(fake.env())
        .output()
        .expect("the test can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
