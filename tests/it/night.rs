//! A night's run through the binary: systemd, secrets, disks, the webhook.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a failed one is a failed test"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A watch over tests that wait for something which never comes.
const PATIENCE: Duration = Duration::from_secs(90);

const BENCHD: &str = env!("CARGO_BIN_EXE_benchd");

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A framework that serves by the simulated server, after `first` in its shell.
fn framework(name: &str, first: &str, more: &str) -> String {
    let port = free_port();
    format!(
        "  {name}:\n    kind: openai\n    command: [sh, -c, '{first} exec {BENCHD} sim --host {{host}} --port {{port}} \
         --model {{model}} --prefill-rate 20000 --decode-rate 200']\n    port: {port}\n    start_timeout: 30s\n    \
         stop_grace: 5s\n{more}"
    )
}

struct Night {
    dir: tempfile::TempDir,
}

impl Night {
    fn new(frameworks: &str, repeats: u32, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = format!(
            "version: 1\nname: night\nhost: {{ gpu: none }}\nrequest: {{ timeout: 20s, warmup: 1 }}\n\
             models: {{ sim: {{ openai: sim }} }}\nframeworks:\n{frameworks}\n\
             scenarios: {{ single: {{ input_tokens: [32], output_tokens: 8, repeats: {repeats}, prompts: identical }} }}\n{more}"
        );
        fs::write(dir.path().join("night.yaml"), plan).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BENCHD);
        command
            .args([
                "run",
                "night.yaml",
                "--results",
                "results",
                "--logs",
                "logs",
                "--no-selfcheck",
            ])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for inherited in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "HF_TOKEN"] {
            command.env_remove(inherited);
        }
        command
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.path("results/latest/journal.jsonl")).unwrap_or_default()
    }

    /// Waits until the journal holds this text.
    fn await_journal(&self, text: &str) {
        let since = Instant::now();
        while !self.journal().contains(text) {
            assert!(since.elapsed() < PATIENCE, "no `{text}` in the journal");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every regular file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// No process of a server that a run of this journal launched is left.
fn nothing_left(journal: &str) {
    let launched = journal.lines().filter_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["event"]["server_launched"]["leader"]["pid"].as_i64()
    });
    for pid in launched {
        let running = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!running.contains("sim"), "{pid} still runs: {running}");
    }
}

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

/// Answers every connection with 200; gives what was posted, one message an item.
fn webhook() -> (u16, std::sync::mpsc::Receiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tx, rx) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            if tx.send(posted(&stream)).is_err() {
                return;
            }
            (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (port, rx)
}

fn posted(stream: &TcpStream) -> serde_json::Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn no_secret_is_anywhere_and_the_webhook_is_told() {
    let (port, messages) = webhook();
    let night = Night::new(
        &[
            framework(
                "whole",
                "echo out $HF_TOKEN; echo err $PLAIN >&2; echo $LITERAL_API_KEY;",
                "    env: { PLAIN: \"${FROM_OUTSIDE}\", LITERAL_API_KEY: sk-literal-in-the-plan }\n",
            ),
            framework(
                "dies",
                "echo dying with $HF_TOKEN >&2; exit 9;",
                "    args: [--api-key, argument-secret-1]\n",
            ),
        ]
        .concat(),
        3,
        "notify: { webhook: \"${BENCHD_WEBHOOK}\" }\n",
    );
    let output = night
        .command()
        .env("HF_TOKEN", "hf_VerySecret\"Value")
        .env("FROM_OUTSIDE", "outside-secret-value")
        .env(
            "BENCHD_WEBHOOK",
            format!("http://127.0.0.1:{port}/services/T0/hook-key-abc"),
        )
        .env("BENCHD_LOG", "trace")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let mut everything: Vec<(String, String)> = vec![("what was printed".into(), text(&output))];
    for root in ["results", "logs"] {
        for file in files(&night.path(root)) {
            let bytes = fs::read(&file).unwrap();
            everything.push((
                file.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
    }
    let told: Vec<serde_json::Value> = messages.try_iter().collect();
    everything.push(("webhook".into(), serde_json::to_string(&told).unwrap()));
    for secret in [
        "VerySecret",
        "outside-secret",
        "sk-literal",
        "argument-secret",
        "hook-key-abc",
    ] {
        for (place, text) in &everything {
            assert!(!text.contains(secret), "{secret} is in {place}:\n{text}");
        }
    }
    let log = fs::read_to_string(night.path("logs/latest/whole-sim.log")).unwrap();
    assert!(
        log.contains("out <redacted>") && log.contains("err <redacted>"),
        "{log}"
    );
    assert!(
        night.journal().contains("dying with <redacted>"),
        "{}",
        night.journal()
    );

    let occasions: Vec<&str> = told.iter().map(|m| m["occasion"].as_str().unwrap()).collect();
    assert_eq!(occasions, ["lane_failed", "finished"], "{told:?}");
    let last = &told[1];
    assert_eq!(
        (last["exit_code"].as_u64(), last["lanes_failed"].as_u64()),
        (Some(1), Some(1))
    );
    assert!(last["text"].as_str().unwrap().contains("finished"), "{last}");
    assert!(
        Path::new(last["report"].as_str().unwrap()).ends_with("report.html"),
        "{last}"
    );
}

#[test]
fn a_webhook_that_nobody_answers_changes_nothing() {
    let port = free_port();
    let night = Night::new(
        &framework("f", "", ""),
        2,
        &format!("notify: {{ webhook: \"http://127.0.0.1:{port}/hook-key-abc\" }}\n"),
    );
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let log = fs::read_to_string(night.path("logs/latest/benchd.log")).unwrap();
    assert!(
        log.contains("the webhook was not told") && !log.contains("hook-key-abc"),
        "{log}"
    );
}

#[test]
fn a_failed_lanes_message_is_not_lost_when_the_run_ends_right_after() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tx, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // The first try fails, the second comes after a pause in which the run has long ended.
        let mut refused = false;
        for stream in listener.incoming().map(Result::unwrap) {
            let message = posted(&stream);
            let busy = message["occasion"] == "lane_failed" && !std::mem::replace(&mut refused, true);
            let status = if busy { "503 Busy" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            (&stream).write_all(answer.as_bytes()).unwrap();
            let _ = tx.send((message["occasion"].clone(), busy));
        }
    });
    let night = Night::new(
        &framework("dies", "exit 9;", ""),
        1,
        &format!("notify: {{ webhook: \"http://127.0.0.1:{port}/hook\" }}\n"),
    );
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.contains(&("lane_failed".into(), false)), "{told:?}");
    assert!(told.contains(&("finished".into(), false)), "{told:?}");
}

/// Serves one message over TLS, with a certificate that is trusted only where its file is named.
fn tls_webhook() -> (u16, thread::JoinHandle<String>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(include_bytes!("../fixtures/tls/webhook.pem")).unwrap()],
            PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/tls/webhook.key")).unwrap(),
        )
        .unwrap();
    let served = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let tls = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, tcp);
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        // The body is JSON without a line end and closes with its last brace.
        while !said.ends_with(b"}") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the message was cut");
            said.extend_from_slice(&buffer[..n]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8(said).unwrap()
    });
    (port, served)
}

#[test]
fn a_webhook_is_told_over_tls() {
    let (port, served) = tls_webhook();
    let night = Night::new(
        &framework("f", "", ""),
        1,
        &format!("notify: {{ webhook: \"https://127.0.0.1:{port}/hook-key-abc\" }}\n"),
    );
    let certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/webhook.pem");
    let output = night
        .command()
        .env("SSL_CERT_FILE", certificate)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let log = fs::read_to_string(night.path("logs/latest/benchd.log")).unwrap();
    assert!(log.contains("the webhook was told"), "{log}");
    let said = served.join().unwrap();
    assert!(
        said.starts_with("POST /hook-key-abc ") && said.contains("\"occasion\":\"finished\""),
        "{said}"
    );
}

#[test]
fn a_machine_without_ca_certificates_measures_all_the_same() {
    let night = Night::new(&framework("f", "", ""), 1, "");
    let mut command = night.command();
    let output = command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Ends a run that a failed test leaves.
struct Running(Option<Child>);

impl Running {
    fn wait(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }
}

/// Starts a run of many requests and waits until some cell of it is being measured.
fn long_run(night: &Night, command: &mut Command) -> Running {
    let child = Running(Some(command.spawn().unwrap()));
    night.await_journal("cell_started");
    child
}

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

/// A library that makes a disk fail under what runs with it, from the moment on when the file `$DISK_FAILS` is there:
/// `$DISK_FAILS_AS` is `fsync`, or an error number of each write below a folder `results`.
const FAILING_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(const char *as) {
    const char *when = getenv("DISK_FAILS"), *how = getenv("DISK_FAILS_AS");
    return when && how && (strcmp(how, as) == 0) && access(when, F_OK) == 0;
}
int fsync(int fd) {
    if (fails("fsync")) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (fails("fsync")) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
ssize_t write(int fd, const void *bytes, size_t n) {
    if (fails("read-only")) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (strstr(path, "/results/")) { errno = EROFS; return -1; }
        }
    }
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, n);
}
"#;

#[test]
fn a_disk_that_stops_taking_anything_in_mid_run_ends_it_and_what_is_whole_stays() {
    for (how, says) in [
        ("fsync", "Input/output error"),
        ("read-only", "Read-only file system"),
    ] {
        let two = [framework("one", "", ""), framework("two", "", "")].concat();
        let night = Night::new(&two, 150, "");
        fs::write(night.path("disk.c"), FAILING_DISK).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o", "disk.so", "disk.c", "-ldl"])
            .current_dir(night.dir.path())
            .output();
        if !built.as_ref().is_ok_and(|b| b.status.success()) {
            println!("SKIPPED: no C compiler makes the failing disk: {built:?}");
            return;
        }
        let mut command = night.command();
        command
            .env("LD_PRELOAD", night.path("disk.so"))
            .env("DISK_FAILS", night.path("now"))
            .env("DISK_FAILS_AS", how);
        let child = long_run(&night, &mut command);
        fs::write(night.path("now"), "").unwrap();
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
    let night = Night::new(&framework("f", "", ""), 400, "");
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
