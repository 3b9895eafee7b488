//! `benchd env` through the binary: a release from a server of the test's own, venvs by a `uv` that only pretends, models by a Python and an Ollama that only pretend. And, ignored, the real `uv`.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Ollama's recipe, in a world.
const OLLAMA: &str = "envs/ollama/setup.sh";

/// A folder with a plan, environments, and a home of its own.
struct World {
    folder: tempfile::TempDir,
    plan: Value,
}

/// What a command said.
struct Said {
    code: i32,
    text: String,
}

impl Said {
    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in: {}", self.text);
        }
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
            text: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        }
    }
}

impl World {
    fn new(frameworks: Value, models: Value) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            plan: json!({
                "version": 1, "name": "p", "host": { "gpu": "none" }, "models": models, "frameworks": frameworks,
                "scenarios": { "single": { "input_tokens": [8], "output_tokens": 4, "repeats": 1 } },
            }),
        }
    }

    /// Ollama from a release of `server`, by the shipped recipe.
    fn with_release(server: &Server) -> Self {
        let world = Self::new(
            json!({ "ollama": { "kind": "ollama", "version": "1.2.3", "binary": "envs/ollama/bin/ollama", "port": 1 } }),
            json!({ "m": { "ollama": "m:1", "gguf": "m.gguf" } }),
        );
        // Without metadata and without tensors.
        world.put("m.gguf", &format!("GGUF\u{3}{}", "\0".repeat(19)), 0o644);
        let envs = Path::new(env!("CARGO_MANIFEST_DIR")).join("envs");
        world.put(
            OLLAMA,
            &fs::read_to_string(envs.join("ollama/setup.sh")).unwrap(),
            0o755,
        );
        world.set("version", "1.2.3");
        world.set("release", &server.url(""));
        world.set("archives", "$release/a.tar.zst");
        world.set("needed_mb", "10");
        world
    }

    /// Sets a variable at the head of Ollama's recipe.
    fn set(&self, name: &str, value: &str) {
        let recipe = self.read(OLLAMA);
        let old = recipe
            .lines()
            .find(|line| line.starts_with(&format!("{name}=")))
            .unwrap();
        let new = format!("{name}=\"{value}\"");
        self.put(OLLAMA, &recipe.replacen(old, &new, 1), 0o755);
    }

    /// vLLM from a venv, by the shipped recipe; the lock names one package.
    fn with_venv() -> Self {
        let world = Self::new(
            json!({ "vllm": { "kind": "vllm", "version": "0.15.1", "venv": "envs/vllm/.venv", "port": 1 } }),
            json!({ "m": { "hf": "org/model" } }),
        );
        let envs = Path::new(env!("CARGO_MANIFEST_DIR")).join("envs");
        for (name, mode) in [("venv.sh", 0o644), ("vllm/setup.sh", 0o755)] {
            world.put(
                &format!("envs/{name}"),
                &fs::read_to_string(envs.join(name)).unwrap(),
                mode,
            );
        }
        world.put(
            "envs/vllm/requirements.lock",
            "vllm==0.15.1 --hash=sha256:00\n",
            0o644,
        );
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn put(&self, name: &str, content: &str, mode: u32) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    fn is_there(&self, name: &str) -> bool {
        self.path().join(name).symlink_metadata().is_ok()
    }

    /// A `uv` that makes a venv as far as benchd looks at one, notes its calls, and runs `also` before it installs.
    fn fake_uv(&self, also: &str) {
        let script = format!(
            r#"#!/bin/sh
echo "$1 $2" >>"{calls}"
case $1 in
venv)
    mkdir -p .venv/bin .venv/lib/python3.12/site-packages
    printf 'version_info = 3.12.9\n' >.venv/pyvenv.cfg
    printf '#!/bin/sh\necho 0.15.1\n' >.venv/bin/python3
    chmod +x .venv/bin/python3 ;;
pip)
    {also}
    mkdir -p .venv/lib/python3.12/site-packages/vllm-0.15.1.dist-info
    printf '#!/bin/sh\n' >.venv/bin/vllm
    chmod +x .venv/bin/vllm ;;
esac
"#,
            calls = self.path().join("uv.calls").display(),
        );
        self.put("bin/uv", &script, 0o755);
    }

    /// A hub library that only pretends: a shell script in the place of the venv's Python.
    fn fake_hub(&self, script: &str) {
        self.put(
            "envs/vllm/.venv/bin/python3",
            &format!("#!/bin/sh\n{script}\n"),
            0o755,
        );
    }

    fn command(&self, args: &[&str]) -> Command {
        fs::write(self.path().join("plan.yaml"), self.plan.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        let path = format!("{}:/usr/bin:/bin", self.path().join("bin").display());
        command
            .args(args)
            .current_dir(self.path())
            .env("PATH", path)
            .env("HOME", self.path().join("home"))
            .stdin(Stdio::null());
        for name in [
            "HF_HOME",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "XDG_CACHE_HOME",
            "HF_TOKEN",
            "OLLAMA_MODELS",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "BENCHD_TOOLS",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn env(&self, flags: &[&str]) -> Said {
        let args = [&["env", "plan.yaml"], flags].concat();
        self.command(&args).output().unwrap().into()
    }

    fn record(&self, environment: &str) -> Value {
        serde_json::from_str(&self.read(&format!("envs/{environment}/installed.json"))).unwrap()
    }
}

/// A server of files, which notes what it was asked, and can break off.
struct Server {
    port: u16,
    state: Arc<Mutex<Serving>>,
}

#[derive(Default)]
struct Serving {
    files: Vec<(String, Vec<u8>)>,
    /// Bytes of an answer after which the connection is closed, once for each entry.
    breaks: Vec<usize>,
    /// Bytes of the next answer after which nothing more comes, until `released`.
    stalls: Option<usize>,
    released: bool,
    asked: Vec<String>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(Serving::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Who hangs up in mid-answer is no fault here.
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { port, state }
    }

    /// With an archive whose program says `says`.
    fn with_archive(says: &str) -> Self {
        let server = Self::start();
        server.serve_archive("a.tar.zst", &archive(says, "zstd"));
        server
    }

    fn serve_archive(&self, name: &str, bytes: &[u8]) {
        let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        self.serve(name, bytes);
        self.serve("sha256sum.txt", format!("{hash}  ./{name}\n").as_bytes());
    }

    fn serve(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.files.retain(|(known, _)| known != name);
        state.files.push((name.to_owned(), bytes.to_owned()));
    }

    fn breaks_after(&self, bytes: &[usize]) {
        self.state.lock().unwrap().breaks = bytes.to_owned();
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<Serving>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let path = first
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/')
        .to_owned();
    let (body, stop, stalls) = {
        let mut state = state.lock().unwrap();
        state.asked.push(if from > 0 {
            format!("{path} from {from}")
        } else {
            path.clone()
        });
        let body = state
            .files
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, bytes)| bytes.clone());
        let is_archive = path != "sha256sum.txt";
        let stop = if is_archive && !state.breaks.is_empty() {
            Some(state.breaks.remove(0))
        } else {
            None
        };
        (body, stop, state.stalls.take())
    };
    let Some(body) = body else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    if from >= body.len() && from > 0 {
        return stream.write_all(
            b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    }
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let rest = &body[from..];
    let (length, all) = (rest.len(), body.len());
    let range = format!("content-range: bytes {from}-{}/{all}\r\n", all.saturating_sub(1));
    let range = if from > 0 { range.as_str() } else { "" };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{range}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&rest[..stop.or(stalls).unwrap_or(length).min(length)])?;
    while stalls.is_some() && !state.lock().unwrap().released {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// A release: a program that says its version, a library beside it, and bytes that don't compress.
fn archive(says: &str, compressor: &str) -> Vec<u8> {
    let noise: Vec<u8> = (0..10_000_u32)
        .flat_map(|n| Sha256::digest(n.to_le_bytes()))
        .collect();
    let program = format!("#!/bin/sh\necho 'ollama version is {says}'\n");
    pack(
        &[
            ("lib/ollama/libggml.so", &noise, 0o644),
            ("bin/ollama", program.as_bytes(), 0o755),
        ],
        compressor,
    )
}

fn pack(files: &[(&str, &[u8], u32)], compressor: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, mode) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    let packed = Command::new("tar")
        .arg(format!("--use-compress-program={compressor}"))
        .args(["-cf", "-", "-C"])
        .arg(folder.path())
        .arg(".")
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
    packed.stdout
}

#[test]
fn a_release_is_fetched_checked_unpacked_recorded_and_then_left_alone() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    world.env(&["--offline"]).assert(
        3,
        &["envs/ollama/bin/ollama is not there", "benchd env plan.yaml"],
    );
    assert_eq!(server.asked(), Vec::<String>::new(), "offline");

    world
        .env(&[])
        .assert(0, &["everything that plan.yaml names is there"]);
    assert_eq!(server.asked(), ["a.tar.zst", "sha256sum.txt"]);
    let program = world.path().join("envs/ollama/bin/ollama");
    assert_eq!(fs::metadata(program).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(world.is_there("envs/ollama/lib/ollama/libggml.so"));
    assert!(!world.is_there("envs/ollama/cache"), "no archive is kept");
    let made = &world.record("ollama")["environment"];
    assert_eq!(
        (&made["version"], &made["source_url"]),
        (&json!("1.2.3"), &json!(server.url("/a.tar.zst")))
    );
    assert_eq!(made["source_sha256"].as_str().unwrap().len(), 64);
    assert!(made["bytes"].as_u64().unwrap() > 320_000);

    world.env(&[]).assert(0, &[]);
    assert_eq!(
        server.asked(),
        Vec::<String>::new(),
        "a second run fetches nothing"
    );
}

#[test]
fn a_wrong_hash_installs_nothing_and_leaves_nothing() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    world.set("sha256", &"ab".repeat(32));
    world
        .env(&[])
        .assert(3, &["SHA-256", &"ab".repeat(32), "nothing was installed"]);
    for name in ["bin", "lib", "installed.json", "release.lock"] {
        assert!(!world.is_there(&format!("envs/ollama/{name}")), "{name}");
    }
    assert!(
        fs::read_dir(world.path().join("envs/ollama/cache"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn the_first_hash_is_kept_and_other_bytes_are_refused_from_then_on() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    world.env(&[]).assert(0, &[]);
    // Somebody replaces the release, its list of checksums included.
    server.serve_archive("a.tar.zst", &archive("evil", "zstd"));
    fs::remove_dir_all(world.path().join("envs/ollama/bin")).unwrap();
    world
        .env(&[])
        .assert(3, &["is not what it should be", "compare the hash"]);
    assert!(!world.is_there("envs/ollama/bin/ollama"));
}

#[test]
fn a_download_that_breaks_goes_on_where_it_stopped() {
    let server = Server::with_archive("1.2.3");
    server.breaks_after(&[100_000, 50_000]);
    let world = World::with_release(&server);
    world.env(&[]).assert(0, &["the connection"]);
    assert_eq!(
        server.asked(),
        [
            "a.tar.zst",
            "a.tar.zst from 100000",
            "a.tar.zst from 150000",
            "sha256sum.txt"
        ]
    );
}

#[test]
fn a_part_of_other_bytes_is_fetched_again_from_its_start() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    world.put("envs/ollama/cache/1.2.3-a.tar.zst", "not these bytes", 0o644);
    world.env(&[]).assert(0, &["fetching it again from its start"]);
    assert_eq!(
        server.asked(),
        ["a.tar.zst from 15", "sha256sum.txt", "a.tar.zst"]
    );
}

#[test]
fn another_form_of_the_archive_is_taken_where_the_first_is_not_there() {
    let server = Server::start();
    server.serve_archive("a.tgz", &archive("1.2.3", "gzip"));
    let world = World::with_release(&server);
    world.set("archives", "$release/a.tar.zst $release/a.tgz");
    world.env(&[]).assert(0, &[]);
    let none = World::with_release(&server);
    none.set("archives", "$release/b.tgz");
    none.env(&[])
        .assert(3, &["nothing is at", "/b.tgz", "right version"]);
}

#[test]
fn an_archive_with_a_larger_window_than_zstd_takes_unasked_is_unpacked() {
    let server = Server::start();
    server.serve_archive("a.tar.zst", &archive("1.2.3", "zstd -1 --long=28"));
    World::with_release(&server).env(&[]).assert(0, &[]);
}

#[test]
fn an_archive_that_is_none_and_one_without_the_program_are_refused() {
    let server = Server::start();
    server.serve_archive("a.tar.zst", b"<html>sign in to the network</html>");
    let world = World::with_release(&server);
    world
        .env(&[])
        .assert(3, &["can't be unpacked", "neither Zstandard nor gzip"]);
    server.serve_archive("a.tar.zst", &pack(&[("bin/other", b"", 0o755)], "zstd"));
    let world = World::with_release(&server);
    world.env(&[]).assert(3, &["it holds no bin/ollama"]);
    let whole = archive("1.2.3", "zstd");
    server.serve_archive("a.tar.zst", &whole[..whole.len() / 2]);
    let world = World::with_release(&server);
    world
        .env(&[])
        .assert(3, &["can't be unpacked", "is there disk space"]);
    for name in ["bin", "lib", "installed.json", "release.lock"] {
        assert!(!world.is_there(&format!("envs/ollama/{name}")), "{name}");
    }
    assert!(!leaves_something_half_made(&world));
}

fn leaves_something_half_made(world: &World) -> bool {
    fs::read_dir(world.path().join("envs/ollama"))
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("making"))
}

#[test]
fn only_tls_is_taken_from_another_machine() {
    let world = World::with_release(&Server::start());
    for other in ["http://example.org/a.tgz", "http://127.0.0.1.example.org/a.tgz"] {
        world.set("archives", other);
        world.env(&[]).assert(3, &[other, "only https is taken"]);
    }
}

#[test]
fn too_little_room_is_seen_before_anything_is_fetched() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    world.set("needed_mb", "999999999");
    world
        .env(&[])
        .assert(3, &["too little disk space", "MB are needed", "make room"]);
    assert_eq!(server.asked(), Vec::<String>::new());
}

/// Sends benchd a signal in the middle of a download.
fn end_in_mid_download(world: &World, server: &Server, signal: nix::sys::signal::Signal) -> Said {
    server.state.lock().unwrap().stalls = Some(100_000);
    let child = world
        .command(&["env", "plan.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = world.path().join("envs/ollama/cache/1.2.3-a.tar.zst");
    while fs::metadata(&part).map_or(0, |file| file.len()) < 50_000 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_signal_ends_the_download_and_what_came_is_kept() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    let said = end_in_mid_download(&world, &server, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(said.code, 143);
    for name in ["bin", "lib", "installed.json"] {
        assert!(!world.is_there(&format!("envs/ollama/{name}")), "{name}");
    }
    server.asked();
    world.env(&[]).assert(0, &["going on at"]);
    assert!(server.asked()[0].starts_with("a.tar.zst from "));
}

#[test]
fn what_a_killed_benchd_leaves_running_holds_the_environment_until_it_ends() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    let said = end_in_mid_download(&world, &server, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(said.code, 128 + 9);
    let busy = "is being made by another benchd";
    world.env(&[]).assert(3, &[busy]);
    // The connection ends, and with it the recipe, which nobody hears any more.
    server.state.lock().unwrap().released = true;
    loop {
        let said = world.env(&[]);
        if said.code == 0 {
            break;
        }
        said.assert(3, &[busy]);
    }
    assert!(world.read("envs/ollama/bin/ollama").contains("1.2.3"));
    assert!(!leaves_something_half_made(&world));
}

#[test]
fn without_a_network_the_address_and_the_remedy_are_named() {
    let server = Server::start();
    let closed = crate::free_port();
    let url = format!("http://127.0.0.1:{closed}/a.tgz");
    let world = World::with_release(&server);
    world.set("archives", &url);
    world
        .env(&[])
        .assert(3, &[&url, "can't be fetched", "is there a network here"]);
}

#[test]
fn a_full_disk_is_named_and_what_came_is_kept_for_the_next_time() {
    let server = Server::with_archive("1.2.3");
    let world = World::with_release(&server);
    let command = world.command(&[]);
    let mut limited = Command::new("sh");
    // 100 blocks of 512 bytes or 1 KiB: less than the archive.
    limited
        .args(["-c", "ulimit -f 100; exec \"$0\" env plan.yaml"])
        .arg(command.get_program())
        .current_dir(world.path())
        .env("HOME", world.path().join("home"));
    Said::from(limited.output().unwrap()).assert(3, &["can't write", "make room"]);
    assert!(!world.is_there("envs/ollama/bin") && !world.is_there("envs/ollama/installed.json"));
    server.asked();
    world.env(&[]).assert(0, &["going on at"]);
    assert!(server.asked()[0].starts_with("a.tar.zst from "));
}

#[test]
fn a_newer_release_replaces_the_old_one_whole() {
    let server = Server::with_archive("1.2.3");
    let mut world = World::with_release(&server);
    world.env(&[]).assert(0, &[]);
    world.plan["frameworks"]["ollama"]["version"] = json!("2.0.0");
    world
        .env(&[])
        .assert(3, &["1.2.3 is installed, the plan says 2.0.0", "setup.sh"]);
    server.serve_archive("b.tar.zst", &archive("2.0.0", "zstd"));
    world.set("version", "2.0.0");
    world.set("archives", "$release/b.tar.zst");
    world.env(&[]).assert(0, &["its recipe has changed"]);
    assert!(world.read("envs/ollama/bin/ollama").contains("2.0.0"));
    assert!(!leaves_something_half_made(&world));
}

#[test]
fn a_venv_is_made_recorded_and_then_left_alone_until_its_lock_changes() {
    let world = World::with_venv();
    world.fake_uv("");
    world
        .env(&["--no-models"])
        .assert(0, &["installing 1 packages", "(vllm 0.15.1)"]);
    assert_eq!(world.read("uv.calls"), "venv --quiet\npip sync\n");
    assert!(!world.is_there("envs/vllm/.venv/half-made"));
    let made = &world.record("vllm")["environment"];
    assert_eq!(
        (&made["python"], &made["packages"]),
        (&json!("3.12.9"), &json!(1))
    );
    assert_eq!(made["resolved_sha256"].as_str().unwrap().len(), 64);

    world.env(&["--no-models"]).assert(0, &[]);
    assert_eq!(
        world.read("uv.calls").lines().count(),
        2,
        "a second run does nothing"
    );
    world.put(
        "envs/vllm/requirements.lock",
        "vllm==0.15.1 --hash=sha256:11\n",
        0o644,
    );
    world
        .env(&["--no-models"])
        .assert(0, &["its recipe has changed", "not what the recipe makes now"]);
    assert_eq!(world.read("uv.calls").lines().count(), 4);
}

#[test]
fn failures_of_uv_are_named_with_a_remedy_and_leave_no_venv() {
    for (says, remedy) in [
        (
            "error: Failed to extract: No space left on device (os error 28)",
            "make room",
        ),
        (
            "error: client error (Connect): dns error",
            "is there a network here",
        ),
        (
            "error: Hash mismatch for `vllm==0.15.1`",
            "not the one that was pinned",
        ),
    ] {
        let world = World::with_venv();
        world.fake_uv(&format!("echo '{says}' >&2; exit 2"));
        world
            .env(&["--no-models"])
            .assert(3, &[says, "uv could not install", remedy]);
        assert!(!world.is_there("envs/vllm/.venv") && !world.is_there("envs/vllm/installed.json"));
    }
}

#[test]
fn a_half_made_venv_and_one_of_another_python_are_made_anew() {
    let world = World::with_venv();
    world.fake_uv("");
    // Killed on the way: nobody could clean up.
    world.put("envs/vllm/.venv/half-made", "", 0o644);
    world.put("envs/vllm/.venv/bin/vllm", "#!/bin/sh\n", 0o755);
    world.env(&["--no-models", "--offline"]).assert(3, &["half-made"]);
    world
        .env(&["--no-models"])
        .assert(0, &["half-made", "making it anew"]);

    world.put("envs/vllm/.venv/pyvenv.cfg", "version_info = 3.10.4\n", 0o644);
    let changed = "was made with Python 3.12.9, and is of Python 3.10.4 now";
    world.env(&["--no-models", "--offline"]).assert(3, &[changed]);
    world.env(&["--no-models"]).assert(
        0,
        &[
            changed,
            "a venv of another Python is there (version_info = 3.10.4)",
        ],
    );
    assert!(world.read("envs/vllm/.venv/pyvenv.cfg").contains("3.12"));
}

#[test]
fn a_folder_that_only_looks_like_a_venv_and_one_without_the_framework_are_made_anew() {
    let world = World::with_venv();
    world.fake_uv("");
    world.put("envs/vllm/.venv/bin/vllm", "#!/bin/sh\nexit 1\n", 0o755);
    world.env(&["--no-models", "--offline"]).assert(
        3,
        &["envs/vllm/.venv is no venv: it has no pyvenv.cfg", "benchd env"],
    );
    world
        .env(&["--no-models"])
        .assert(0, &["the folder .venv is no venv: making it anew"]);

    let package = "envs/vllm/.venv/lib/python3.12/site-packages/vllm-0.15.1.dist-info";
    fs::remove_dir_all(world.path().join(package)).unwrap();
    world
        .env(&["--no-models", "--offline"])
        .assert(3, &["vllm is not installed in envs/vllm/.venv"]);
    world.env(&["--no-models"]).assert(0, &["making it anew"]);
    assert!(world.is_there(package));
    world
        .env(&["--no-models", "--offline"])
        .assert(0, &["everything that plan.yaml names is there"]);
}

#[test]
fn a_lock_without_the_framework_and_another_version_than_the_plans_are_named() {
    let mut world = World::with_venv();
    world.fake_uv("");
    world.plan["frameworks"]["vllm"]["version"] = json!("0.16.0");
    world
        .env(&["--no-models"])
        .assert(3, &["0.15.1 is installed, the plan says 0.16.0", "requirements"]);
    let world = World::with_venv();
    world.fake_uv("printf '#!/bin/sh\\nexit 1\\n' >.venv/bin/python3");
    world
        .env(&["--no-models"])
        .assert(3, &["vllm is not in the venv", "does requirements.lock name it"]);
    assert!(!world.is_there("envs/vllm/.venv"));
}

#[test]
fn uv_is_fetched_into_a_folder_of_benchds_own_where_it_is_missing() {
    let world = World::with_venv();
    world.fake_uv("");
    fs::rename(world.path().join("bin/uv"), world.path().join("uv.real")).unwrap();
    let pip = format!(
        "#!/bin/sh\ncase \"$*\" in\n*--version*) exit 0 ;;\n*--target*)\n while [ \"$1\" != --target ]; do shift; done\n \
         mkdir -p \"$2/bin\" && cp {} \"$2/bin/uv\" ;;\nesac\n",
        world.path().join("uv.real").display()
    );
    world.put("bin/python3", &pip, 0o755);
    world.env(&["--no-models"]).assert(0, &["fetching uv 0."]);
    assert!(world.is_there("envs/.tools/uv/bin/uv"));

    let world = World::with_venv();
    world.put("bin/python3", "#!/bin/sh\nexit 1\n", 0o755);
    world
        .env(&["--no-models"])
        .assert(3, &["python3 has no pip", "apt-get install python3-pip"]);
}

#[test]
fn a_signal_ends_the_recipe_and_leaves_no_venv() {
    let world = World::with_venv();
    world.fake_uv(&format!(
        "touch {}; sleep 1000",
        world.path().join("reached").display()
    ));
    let child = world
        .command(&["env", "plan.yaml", "--no-models"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !world.is_there("reached") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let said: Said = child.wait_with_output().unwrap().into();
    assert_eq!(said.code, 143);
    assert!(!world.is_there("envs/vllm/.venv"));
}

/// What the hub's library leaves behind, in shell.
const HUB_FILES: &str = r#"place="$HOME/.cache/huggingface/hub/models--org--model/snapshots/main"
mkdir -p "$place"
echo '{}' >"$place/config.json"; echo '{}' >"$place/tokenizer.json"
printf '\002\000\000\000\000\000\000\000{}' >"$place/model.safetensors""#;

#[test]
fn a_model_of_the_hub_is_fetched_by_the_venvs_own_library() {
    let world = World::with_venv();
    world.fake_uv("");
    world.env(&["--no-models"]).assert(0, &[]);
    world.fake_hub(&format!("echo \"asked for $3 $4\"\n{HUB_FILES}"));
    world
        .env(&["--offline"])
        .assert(3, &["org/model is not on this machine"]);
    world.env(&[]).assert(0, &["asked for org/model main"]);
    let again = world.env(&[]);
    again.assert(0, &[]);
    assert!(!again.text.contains("asked for"), "{}", again.text);
    // A download that was cut is fetched again.
    let weights = "home/.cache/huggingface/hub/models--org--model/snapshots/main/model.safetensors";
    world.put(weights, "cut", 0o644);
    world.env(&[]).assert(0, &["asked for org/model"]);
}

#[test]
fn a_gated_model_without_a_token_names_its_licence_page() {
    let world = World::with_venv();
    world.fake_uv("");
    world.env(&["--no-models"]).assert(0, &[]);
    world.fake_hub(
        "echo 'huggingface_hub.errors.GatedRepoError: 401 Client Error. Access is restricted.' >&2; exit 1",
    );
    let gated = world.env(&[]);
    gated.assert(
        3,
        &[
            "org/model can't be fetched",
            "https://huggingface.co/org/model",
            "HF_TOKEN",
        ],
    );
    world.fake_hub(&format!("{HUB_FILES}\nrm \"$place/model.safetensors\""));
    world.env(&[]).assert(3, &["is not whole: no weights"]);
}

/// An Ollama that serves version and pull, and has the model afterwards.
const FAKE_OLLAMA: &str = r#"#!/usr/bin/env python3
import http.server, json, os, pathlib, sys
assert sys.argv[1:] == ["serve"] and os.environ["CUDA_VISIBLE_DEVICES"] == ""
host, port = os.environ["OLLAMA_HOST"].split(":")
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, text):
        self.send_response(200); self.end_headers(); self.wfile.write(text.encode())
    def do_GET(self): self.answer('{"version":"1.2.3"}')
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] != "m:1":
            return self.answer('{"status":"pulling manifest"}\n{"error":"pull model manifest: file does not exist"}\n')
        models = pathlib.Path(os.environ["HOME"]) / ".ollama/models"
        (models / "blobs").mkdir(parents=True); (models / "manifests/h/library/m").mkdir(parents=True)
        (models / "blobs/sha256-aa").write_text("GGUF")
        layer = {"digest": "sha256:aa", "size": 4, "mediaType": "application/vnd.ollama.image.model"}
        (models / "manifests/h/library/m/1").write_text(json.dumps({"layers": [layer]}))
        lines = [{"status": "pulling manifest"}, {"status": "pulling aa", "total": 4000000, "completed": 1000000},
                 {"status": "success"}]
        self.answer("".join(json.dumps(line) + "\n" for line in lines))
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"#;

#[test]
fn a_model_of_ollama_is_pulled_by_a_server_that_is_gone_afterwards() {
    let frameworks = json!({ "ollama": { "kind": "ollama", "binary": "envs/o/bin/ollama", "port": 1 } });
    let mut world = World::new(frameworks, json!({ "m": { "ollama": "m:1" } }));
    world.put("envs/o/bin/ollama", FAKE_OLLAMA, 0o755);
    world
        .env(&["--offline"])
        .assert(3, &["m:1 is not on this machine"]);
    world.env(&[]).assert(0, &["pulling aa: 1 of 4 MB", "everything"]);
    assert!(
        !is_running(&world.path().join("envs/o/bin/ollama")),
        "its server is ended"
    );
    world.plan["models"]["m"]["ollama"] = json!("n:2");
    world.env(&[]).assert(
        3,
        &["n:2 can't be fetched", "file does not exist", "is the tag right"],
    );
    world.put(
        "envs/o/bin/ollama",
        "#!/bin/sh\necho 'no libcuda' >&2; exit 1\n",
        0o755,
    );
    world.env(&[]).assert(3, &["its server ended", "no libcuda"]);
}

fn is_running(program: &Path) -> bool {
    let wanted = program.display().to_string();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted))
    })
}

#[test]
fn a_token_in_a_tools_words_is_not_shown() {
    let world = World::with_venv();
    world.fake_uv(
        "echo 'using hf_abcdefghijklmnopqrstuvwxyz'; echo 'bad hf_abcdefghijklmnopqrstuvwxyz' >&2; exit 1",
    );
    let said: Said = world
        .command(&["env", "plan.yaml", "--no-models"])
        .env("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
        .output()
        .unwrap()
        .into();
    said.assert(3, &["using ", "uv could not install"]);
    assert!(!said.text.contains("hf_abcdef"), "{}", said.text);
}

/// Needs a package registry. The shipped recipe with a tiny lock, the real uv, and this machine's own Python.
#[test]
#[ignore = "fetches uv and a package"]
fn real_uv_makes_a_venv_from_a_lock_and_refuses_a_wrong_hash() {
    let world = World::with_venv();
    let version = Command::new("python3")
        .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let recipe = world
        .read("envs/venv.sh")
        .replace("python=3.12", &format!("python={}", version.trim()));
    world.put("envs/venv.sh", &recipe, 0o644);
    let setup = world
        .read("envs/vllm/setup.sh")
        .replace("package=vllm", "package=iniconfig")
        .replace("program=vllm", "program=python3");
    world.put("envs/vllm/setup.sh", &setup, 0o755);
    let lock = |hash: &str| {
        world.put(
            "envs/vllm/requirements.lock",
            &format!("iniconfig==2.1.0 --hash=sha256:{hash}\n"),
            0o644,
        )
    };
    let make = || -> Said {
        let path = std::env::var("PATH").unwrap();
        world
            .command(&["env", "plan.yaml", "--no-models"])
            .env("PATH", path)
            .output()
            .unwrap()
            .into()
    };
    lock(&"00".repeat(32));
    let refused = make();
    refused.assert(3, &["uv could not install", "not the one that was pinned"]);
    assert!(!world.is_there("envs/vllm/.venv"));
    lock("9deba5723312380e77435581c6bf4935c94cbfab9b1ed33ef8d238ea168eb760");
    // vLLM is not what was installed, so the command ends with what is missing; the venv itself is made.
    make().assert(3, &["made:", "iniconfig 2.1.0", "bin/vllm is not there"]);
    let made = &world.record("vllm")["environment"];
    assert_eq!(made["packages"], json!(1));
}
