//! The proof that memory came back, and what is said where it did not.

use std::time::Duration;

use benchd_host::gpu::{Baseline, Gpu, Held, HeldReason, Placement, ReleaseProof, Witness, prove_release};
use serde_json::json;

use super::{GIB, INIT, PATIENCE, Server, open};
use crate::support::fake_nvml::FakeGpu;

const TOLERANCE: u64 = 64 << 20;
/// For what must not come back.
const SHORT: Duration = Duration::from_millis(200);

async fn prove(gpu: &Gpu, ours: &[i32], timeout: Duration) -> Result<ReleaseProof, Held> {
    prove_release(gpu, ours, &used(0), TOLERANCE, timeout).await
}

/// A baseline of one device with nobody on it.
fn used(bytes: u64) -> Baseline {
    Baseline {
        used_bytes: vec![bytes],
        processes: Vec::new(),
    }
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
        gpu.placement(&server.pids()).await,
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
        (&HeldReason::Unattributed, &vec![Some(GIB)])
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
async fn a_strangers_memory_is_not_taken_for_the_servers() {
    let fake = FakeGpu::new();
    fake.hold(INIT, GIB);
    let gpu = open(&fake);
    let proof = prove(&gpu, &[12_345_678], SHORT)
        .await
        .expect("all of it is the stranger's");
    assert_eq!((proof.used_bytes, proof.baseline_bytes), (vec![GIB], vec![0]));
    assert_eq!((proof.strangers.len(), proof.strangers[0].pid), (1, INIT));
    assert!(proof.polls > 1, "one look may see it come");
    // Beside it is memory that nobody is known to hold.
    fake.set(&json!({ "devices": [{ "base_used_bytes": GIB }] }));
    let held = prove(&gpu, &[12_345_678], SHORT)
        .await
        .expect_err("1 GiB is nobody's");
    assert_eq!(held.reason, HeldReason::Unattributed);
    assert!(held.to_string().contains("pid 1 ("), "{held}");
    assert!(held.to_string().contains("unattributed"), "{held}");
    // The same in the baseline does no harm.
    for then in [GIB, 5 * GIB] {
        prove_release(&gpu, &[12_345_678], &used(then), TOLERANCE, PATIENCE)
            .await
            .expect("no more is used than then");
    }
}

#[tokio::test]
async fn where_nvml_does_not_tell_what_a_stranger_holds_nothing_is_proven_and_this_is_said() {
    let fake = FakeGpu::new();
    fake.hold_untold(INIT, GIB);
    let gpu = open(&fake);
    let held = prove(&gpu, &[12_345_678], SHORT)
        .await
        .expect_err("it may be the server's");
    assert_eq!(held.reason, HeldReason::Strangers);
    assert!(held.to_string().contains("memory not told"), "{held}");
    assert!(held.to_string().contains("unattributed"), "{held}");
    fake.free(INIT);
    prove(&gpu, &[12_345_678], PATIENCE).await.expect("it has left");
}

#[tokio::test]
async fn where_processes_are_not_listed_memory_alone_proves_and_this_is_said() {
    let fake = FakeGpu::new();
    fake.set(&json!({ "hide_processes": true, "reap_dead_after_ms": 0 }));
    let mut server = Server::start();
    fake.hold(server.pid(), GIB);
    let gpu = open(&fake);
    let placement = gpu.placement(&server.pids()).await.expect("NVML answers");
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
