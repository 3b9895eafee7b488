//! What systemd is told, the units, the system journal, and a delegated cgroup.

use super::*;

#[test]
fn the_units_are_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for unit in ["benchd@.service", "benchd@.timer"] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit)).unwrap();
        // The program must exist for the check.
        let text = text.replace("/usr/local/bin/benchd", BENCHD);
        fs::write(dir.path().join(unit), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([
            dir.path().join("benchd@a100.service"),
            dir.path().join("benchd@a100.timer"),
        ])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .output()
        .unwrap();
    let said = text(&verified);
    let ours: Vec<&str> = said.lines().filter(|l| l.contains("benchd@")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn systemd_is_told_and_servers_are_not_let_near_it() {
    let night = Night::new(
        &framework("f", "echo NOTIFY=$NOTIFY_SOCKET WATCHDOG=$WATCHDOG_USEC.;", ""),
        20,
        "",
    );
    let socket = UnixDatagram::bind(night.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = night
        .command()
        .env("NOTIFY_SOCKET", night.path("notify"))
        .env("WATCHDOG_USEC", "2000000")
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.iter().any(|m: &String| m.contains("STOPPING=1")) {
        let n = socket.recv(&mut buffer).unwrap();
        seen.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let first = |what: &str| {
        seen.iter()
            .position(|m| m.contains(what))
            .unwrap_or_else(|| panic!("{what}: {seen:?}"))
    };
    let ready = first("READY=1");
    let cell = seen
        .iter()
        .position(|m| {
            m.starts_with("STATUS=")
                && m.contains("lane 1 of 1")
                && m.contains("single/in32")
                && m.contains("until ")
        })
        .unwrap_or_else(|| panic!("{seen:?}"));
    assert!(ready < cell && cell < first("STOPPING=1"), "{seen:?}");
    assert!(seen.iter().skip(ready).any(|m| m == "WATCHDOG=1\n"), "{seen:?}");
    assert!(seen.last().unwrap().contains("EXTEND_TIMEOUT_USEC="), "{seen:?}");
    let log = fs::read_to_string(night.path("logs/latest/f-sim.log")).unwrap();
    assert!(log.contains("NOTIFY= WATCHDOG=."), "{log}");
}

#[test]
fn lines_in_the_system_journal_have_a_priority() {
    let night = Night::new(&framework("f", "exit 7;", ""), 1, "");
    let (mut read, write) = std::io::pipe().unwrap();
    let stream = fs::metadata(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&write)
    ))
    .unwrap();
    let mut child = night
        .command()
        .stdout(Stdio::null())
        .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
        .stderr(write)
        .spawn()
        .unwrap();
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    // Where a journal runs it has taken the lines with their fields.
    if !Path::new("/run/systemd/journal/socket").exists() {
        assert!(said.lines().any(|l| l.starts_with("<6>run ")), "{said}");
        assert!(
            said.lines().any(|l| l.starts_with("<3>lane f/sim  failed")),
            "{said}"
        );
    }
}

#[test]
fn a_delegated_cgroup_holds_the_server_and_is_empty_after() {
    let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(Path::new)
        .find(|dir| dir.join("cgroup.procs").exists() && dir.join("cgroup.controllers").exists());
    let own = root.map(|root| root.join(format!("benchd-test-{}", std::process::id())));
    let Some(own) = own.filter(|own| fs::create_dir(own).is_ok()) else {
        println!("skipped: no version 2 cgroup may be made here");
        return;
    };
    let night = Night::new(&framework("f", "cat /proc/self/cgroup;", ""), 3, "");
    let output = night.command().env("BENCHD_CGROUP", &own).output().unwrap();
    let log = fs::read_to_string(night.path("logs/latest/f-sim.log")).unwrap();
    let left: Vec<PathBuf> = fs::read_dir(&own)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    for dir in &left {
        fs::remove_dir(dir).unwrap();
    }
    fs::remove_dir(&own).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(log.contains("/server-"), "{log}");
    assert_eq!(left, [own.join("benchd")], "the server's cgroup is gone");
}
