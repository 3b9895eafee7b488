//! Disks that are full, too small, gone, or refuse.

use super::*;

fn ends_by_disk(journal: &str, child: Running, says: &str) {
    let output = child.wait();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("stopped: ") && said.contains(says), "{said}");
    nothing_left(journal);
}

#[test]
fn a_file_size_limit_in_mid_run_stops_the_lane_and_keeps_what_is_whole() {
    let night = Night::new(&framework("f", "", ""), 5000, "");
    let mut command = Command::new("sh");
    // Units of 512 bytes: the records reach it long before their end.
    command
        .args([
            "-c",
            &format!("ulimit -f 120; exec {BENCHD} run night.yaml --results results --logs logs"),
        ])
        .current_dir(night.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = long_run(&night, &mut command);
    let output = child.wait();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("the file-size limit (ulimit -f) is reached"),
        "{said}"
    );
    nothing_left(&night.journal());
    // What is there is whole lines.
    let records = fs::read_to_string(night.path("results/latest/f/sim/requests.jsonl")).unwrap();
    assert!(records.ends_with('\n') && records.lines().count() > 3);
    for line in records.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(night.journal().contains("\"aborted\""), "{}", night.journal());
}

#[test]
fn a_run_folder_that_is_deleted_in_mid_run_is_noticed() {
    let two = [framework("one", "", ""), framework("two", "", "")].concat();
    let night = Night::new(&two, 40, "");
    let child = long_run(&night, &mut night.command());
    let journal = night.journal();
    fs::remove_dir_all(fs::canonicalize(night.path("results/latest")).unwrap()).unwrap();
    ends_by_disk(&journal, child, "deleted or moved");
    assert!(
        !night.path("results/latest/two").exists(),
        "no second lane in a folder that is gone"
    );
}

#[test]
fn a_disk_that_stops_syncing_in_mid_run_ends_it_and_what_is_whole_stays() {
    stops_taking_anything("fsync", "Input/output error");
}

#[test]
fn a_disk_that_is_read_only_in_mid_run_ends_it_and_what_is_whole_stays() {
    stops_taking_anything("read-only", "Read-only file system");
}

fn stops_taking_anything(how: &str, says: &str) {
    let two = [framework("one", "", ""), framework("two", "", "")].concat();
    let night = Night::new(&two, 150, "");
    let Some(disk) = FailingDisk::new(&night, how) else {
        return;
    };
    let mut command = night.command();
    command.envs(disk.env());
    let child = long_run(&night, &mut command);
    disk.fail();
    let journal = night.journal();
    ends_by_disk(&journal, child, says);
    assert!(
        !night.path("results/latest/two").exists(),
        "{how}: no second lane"
    );

    // Another disk: it goes on, and every cell is measured once.
    let output = night.command().arg("--resume").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{how}: {}", text(&output));
    let journal = night.journal();
    assert_eq!(journal.matches("\"cell_ended\"").count(), 2, "{how}: {journal}");
    assert_eq!(journal.matches("\"run_started\"").count(), 2, "{how}");
}

/// A small disk, unmounted when dropped; `None` where mounting is not permitted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&at)
            .output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Self(at));
        }
        println!("skipped: mounting a small disk is not permitted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_the_start() {
    let night = Night::new(&framework("f", "", ""), 3, "");
    let Some(_disk) = SmallDisk::mount(night.path("results"), "1m") else {
        return;
    };
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("too little disk space"),
        "{}",
        text(&output)
    );
    assert_eq!(files(&night.path("results")), [] as [PathBuf; 0]);
}

#[test]
fn a_disk_that_fills_up_in_mid_run_stops_it_and_the_run_goes_on_with_room() {
    let night = Night::new(&framework("f", "", ""), 150, "");
    let Some(_disk) = SmallDisk::mount(night.path("results"), "24m") else {
        return;
    };
    let child = long_run(&night, &mut night.command());
    let mut ballast = fs::File::create(night.path("results/ballast")).unwrap();
    let block = vec![1; 1 << 16];
    while ballast.write_all(&block).is_ok() {}
    // The last pages, too.
    while ballast.write_all(&block[..512]).is_ok() {}
    drop(ballast);
    let journal = night.journal();
    ends_by_disk(&journal, child, "the disk is full");
    fs::remove_file(night.path("results/ballast")).unwrap();
    let output = night.command().arg("--resume").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(night.journal().matches("run_started").count(), 2);
}

#[test]
fn a_results_folder_that_cannot_be_made_is_told_with_exit_3() {
    let night = Night::new(&framework("f", "", ""), 3, "");
    fs::write(night.path("results"), "a file").unwrap();
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("cannot create results"),
        "{}",
        text(&output)
    );
}
