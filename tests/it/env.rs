//! Recipes that really run.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use benchd::{EnvError, provision};
use tokio_util::sync::CancellationToken;

fn recipe(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("setup.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a writable folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    path
}

fn is_running(pid: &str) -> bool {
    // A zombie that waits for its parent runs no more.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ends(pid: &str) {
    while is_running(pid) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_recipe_runs_in_its_folder_and_is_heard_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(
        dir.path(),
        "echo out; echo err >&2; printf 'no newline'; read x || touch made",
    );
    let mut lines = Vec::new();
    provision(&recipe, &CancellationToken::new(), |line| {
        lines.push(line.to_owned())
    })
    .await
    .unwrap();
    lines.sort();
    assert_eq!(lines, ["err", "no newline", "out"]);
    assert!(
        dir.path().join("made").exists(),
        "it has nothing to read and runs in its folder"
    );
}

#[tokio::test]
async fn a_failure_shows_the_last_lines_and_the_status() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(dir.path(), "for i in $(seq 1 50); do echo line $i; done; exit 3");
    let error = provision(&recipe, &CancellationToken::new(), |_| {})
        .await
        .unwrap_err();
    let EnvError::Failed {
        status, last_lines, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(status.code(), Some(3));
    assert_eq!(last_lines.len(), 20);
    assert_eq!(last_lines.last().map(String::as_str), Some("line 50"));
    assert!(error.to_string().contains("line 31\n"), "{error}");
}

#[tokio::test]
async fn what_it_leaves_in_the_background_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(dir.path(), "sleep 1000 & echo $! > child");
    provision(&recipe, &CancellationToken::new(), |_| {})
        .await
        .unwrap();
    ends(&std::fs::read_to_string(dir.path().join("child")).unwrap()).await;
}

#[tokio::test]
async fn a_cancelled_recipe_is_ended_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    // Deaf to TERM: only KILL to the group ends its child.
    let recipe = recipe(dir.path(), "(trap '' TERM; sleep 1000) & echo $!; wait");
    let cancel = CancellationToken::new();
    let mut child = String::new();
    let error = provision(&recipe, &cancel, |line| {
        child = line.to_owned();
        cancel.cancel();
    })
    .await
    .unwrap_err();
    assert!(matches!(error, EnvError::Cancelled { .. }), "{error}");
    ends(&child).await;
}

#[tokio::test]
async fn two_never_make_the_same_environment_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = recipe(dir.path(), "mkfifo gate; echo started; cat gate");
    let (started, mut when_started) = tokio::sync::mpsc::unbounded_channel();
    let first = tokio::spawn({
        let path = path.clone();
        async move {
            provision(&path, &CancellationToken::new(), |line| {
                let _ = started.send(line.to_owned());
            })
            .await
        }
    });
    assert_eq!(when_started.recv().await.as_deref(), Some("started"));
    let second = provision(&path, &CancellationToken::new(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(second, EnvError::Busy { .. }), "{second}");

    let gate = dir.path().join("gate");
    tokio::task::spawn_blocking(move || std::fs::write(gate, ""))
        .await
        .unwrap()
        .unwrap();
    first.await.unwrap().unwrap();
    std::fs::remove_file(dir.path().join("gate")).unwrap();
    let free_again = recipe(dir.path(), "true");
    provision(&free_again, &CancellationToken::new(), |_| {})
        .await
        .unwrap();
}

#[tokio::test]
async fn a_recipe_that_cannot_be_run_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("setup.sh");
    let error = provision(&absent, &CancellationToken::new(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, EnvError::Start { .. }), "{error}");
}

#[tokio::test]
async fn a_recipe_ends_when_nobody_waits_for_it_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(dir.path(), "sleep 1000 & echo $!; wait");
    let (started, mut when_started) = tokio::sync::mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let child = tokio::select! {
        done = provision(&recipe, &cancel, |line| { let _ = started.send(line.to_owned()); }) => panic!("{done:?}"),
        Some(child) = when_started.recv() => child,
    };
    ends(&child).await;
}
