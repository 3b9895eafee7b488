//! `benchd check` through the binary: a machine of temporary folders and a fake NVML, and one fault at a time.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{free_port, support::fake_nvml::FakeGpu};

/// A machine that is fit for its plan.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) gpu: FakeGpu,
    pub(crate) plan: Value,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let gpu = FakeGpu::new();
        let folder = tempfile::tempdir().unwrap();
        let machine = Self {
            plan: json!({
                "version": 1,
                "name": "night",
                "host": { "gpu": 0, "expect": { "gpu_name": "H100", "driver": "580" } },
                "models": { "llama": { "hf": "org/llama", "ollama": "llama:8b" } },
                "frameworks": {
                    "vllm": { "kind": "vllm", "version": "0.15.1", "venv": "envs/vllm/.venv", "port": free_port() },
                    "ollama": { "kind": "ollama", "version": "0.15.6", "binary": "envs/ollama/bin/ollama",
                                "port": free_port() },
                },
                "scenarios": {
                    "single": { "input_tokens": [512], "output_tokens": 256, "repeats": 10 },
                    "concurrent": { "concurrency": [1, 64], "input_tokens": 512, "output_tokens": 256, "requests": 100 },
                },
            }),
            folder,
            gpu,
        };
        machine.device(json!({}));
        // The driver's library.
        machine.put("lib/libcuda.so.1", "", 0o644);
        machine.venv(
            "3.12.8",
            &[("vllm", "0.15.1"), ("nvidia_cuda_runtime_cu12", "12.8.90")],
        );
        machine.ollama("Warning: client version is 0.15.6");
        machine.model(1 << 30, 0);
        let blobs = "home/.ollama/models/blobs";
        machine.put(&format!("{blobs}/sha256-aa"), "GGUF", 0o644);
        let layer =
            json!({ "digest": "sha256:aa", "size": 4, "mediaType": "application/vnd.ollama.image.model" });
        machine.put(
            "home/.ollama/models/manifests/host/library/llama/8b",
            &json!({ "layers": [layer] }).to_string(),
            0o644,
        );
        machine
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn put(&self, name: &str, content: &str, mode: u32) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The only GPU, with a UUID of this test's own, so that its lock is nobody else's.
    fn device(&self, keys: Value) {
        let mut device = json!({ "uuid": self.uuid() });
        device
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        self.gpu.set(&json!({ "devices": [device] }));
    }

    pub(crate) fn uuid(&self) -> String {
        format!("GPU-{}", self.path().file_name().unwrap().to_string_lossy())
    }

    fn venv(&self, python: &str, packages: &[(&str, &str)]) {
        let venv = self.path().join("envs/vllm/.venv");
        let _ = fs::remove_dir_all(&venv);
        let site = venv.join("lib/python3.12/site-packages");
        fs::create_dir_all(&site).unwrap();
        for (name, version) in packages {
            fs::create_dir(site.join(format!("{name}-{version}.dist-info"))).unwrap();
        }
        self.put(
            "envs/vllm/.venv/pyvenv.cfg",
            &format!("version_info = {python}\n"),
            0o644,
        );
        self.put("envs/vllm/.venv/bin/python3", "#!/bin/sh\n", 0o755);
        self.put("envs/vllm/.venv/bin/vllm", "#!/bin/sh\n", 0o755);
    }

    fn ollama(&self, says: &str) {
        self.put(
            "envs/ollama/bin/ollama",
            &format!("#!/bin/sh\necho '{says}' >&2\n"),
            0o755,
        );
    }

    /// A model of the hub, its weights a sparse file of which the last `cut` bytes are missing.
    fn model(&self, bytes: u64, cut: u64) {
        let snapshot = "home/.cache/huggingface/hub/models--org--llama/snapshots/main";
        let config = json!({
            "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "hidden_size": 4096, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16",
        });
        self.put(&format!("{snapshot}/config.json"), &config.to_string(), 0o644);
        self.put(&format!("{snapshot}/tokenizer.json"), "{}", 0o644);
        let header =
            json!({ "w": { "dtype": "BF16", "shape": [1], "data_offsets": [0, bytes] } }).to_string();
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.extend(header.bytes());
        let path = self.path().join(format!("{snapshot}/model.safetensors"));
        fs::write(&path, &head).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(head.len() as u64 + bytes - cut).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        fs::write(self.path().join("plan.yaml"), self.plan.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        command
            .args(args)
            .current_dir(self.path())
            .envs(self.gpu.env())
            .env("HOME", self.path().join("home"))
            .env("LD_LIBRARY_PATH", self.path().join("lib"))
            .stdin(Stdio::null());
        for name in [
            "HF_HOME",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "XDG_CACHE_HOME",
            "HF_TOKEN",
            "OLLAMA_MODELS",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn look(&self) -> Found {
        Found::of(self.command(&["check", "plan.yaml", "--json"]).output().unwrap())
    }
}

/// What `benchd check --json` said.
pub(crate) struct Found {
    pub(crate) code: i32,
    pub(crate) told: Value,
}

impl Found {
    fn of(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Self {
            code: output.status.code().unwrap(),
            told: serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}")),
        }
    }

    /// The finding whose text has these words: its severity, text and remedy.
    #[track_caller]
    pub(crate) fn has(&self, severity: &str, words: &[&str]) -> (String, String) {
        let found = self.told["findings"].as_array().unwrap().iter().find(|finding| {
            let text = finding["text"].as_str().unwrap();
            finding["severity"] == severity && words.iter().all(|word| text.contains(word))
        });
        let Some(found) = found else {
            panic!("no {severity} with {words:?} in {:#}", self.told["findings"]);
        };
        (
            found["text"].as_str().unwrap().to_owned(),
            found["remedy"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// Findings that forbid the run, of the given severities.
    pub(crate) fn bad(&self) -> Vec<String> {
        let all = self.told["findings"].as_array().unwrap().iter();
        all.filter(|f| f["severity"] == "stop" || f["severity"] == "lose")
            .map(|f| f["text"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Exactly one finding forbids the run: this one.
    #[track_caller]
    pub(crate) fn refused(&self, severity: &str, words: &[&str]) -> String {
        assert_eq!(self.bad().len(), 1, "{:#?}", self.bad());
        assert_eq!((self.code, &self.told["fit"]), (3, &json!(false)));
        let (_, remedy) = self.has(severity, words);
        assert!(!remedy.is_empty(), "a remedy");
        remedy
    }
}

#[test]
fn a_fit_machine_is_said_to_be_fit_with_all_that_was_looked_at() {
    let machine = Machine::new();
    let found = machine.look();
    assert_eq!(found.bad(), Vec::<String>::new());
    assert_eq!((found.code, &found.told["fit"]), (0, &json!(true)));
    found.has("ok", &["GPU 0: Fake H100 80GB", "driver 580.159.04", "CUDA 13.0"]);
    found.has("ok", &["vllm: vllm 0.15.1, Python 3.12.8, 2 packages"]);
    found.has("ok", &["ollama: ollama 0.15.6"]);
    found.has("ok", &["llama: 1.0 GiB of safetensors"]);
    found.has(
        "ok",
        &[
            "vllm / llama: weights 1.0 GiB",
            "--gpu-memory-utilization 0.9",
            "tokens",
        ],
    );
    found.has("ok", &["free: "]);
    found.has("ok", &["MiB free on the file system"]);
    assert!(found.told["estimate_s"].as_u64().unwrap() > 0);
    assert!(
        found.told["estimate_by_scenario_s"]["concurrent"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[test]
fn people_get_a_table_with_the_worst_first_and_a_last_line_that_says_what_it_means() {
    let machine = Machine::new();
    machine.device(json!({ "persistence": false, "name": "Fake A100" }));
    let output = machine.command(&["check", "plan.yaml"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.starts_with("plan night: 2 lanes, 6 cells, 420 counted requests\nabout "),
        "{text}"
    );
    let findings: Vec<&str> = text.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
    assert!(findings[0].starts_with("✖ stop  GPU"), "{text}");
    assert!(findings[1].trim_start().starts_with("→ "), "{text}");
    let place = |sign: &str| findings.iter().position(|line| line.starts_with(sign)).unwrap();
    assert!(
        place("✖ stop") < place("! warn") && place("! warn") < place("✓ ok"),
        "{text}"
    );
    assert!(text.trim_end().ends_with("the run would not start"), "{text}");
    assert!(!text.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn a_wrong_plan_is_exit_2() {
    let mut machine = Machine::new();
    machine.plan["frameworks"]["vllm"]["args"] = json!(["--port", "1"]);
    let output = machine.command(&["check", "plan.yaml"]).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "an argument that benchd gives itself"
    );
    machine.plan["frameworks"]["vllm"]["prot"] = json!(1);
    let output = machine.command(&["check", "plan.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("prot"));
    let output = machine
        .command(&["check", "plan.yaml", "--only", "framework=nobody"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn faults_of_the_gpu_are_found() {
    let machine = Machine::new();
    machine.device(json!({ "name": "Fake A100 80GB" }));
    machine.look().refused("stop", &["Fake A100 80GB", "H100"]);

    machine.device(json!({ "mig": true }));
    assert!(machine.look().refused("lose", &["MIG mode"]).contains("-mig 0"));

    machine.device(
        json!({ "persistence": false, "ecc_uncorrected": 2, "throttle": 0x40, "retirement_pending": true,
                           "temperature_c": 81, "util_gpu_pct": 55, "base_used_bytes": 10_u64 << 30 }),
    );
    let found = machine.look();
    assert_eq!(found.code, 0, "warnings alone let the run start");
    for words in [
        &["persistence mode is off"][..],
        &["2 uncorrected memory errors"],
        &["too warm"],
        &["wait to be retired"],
        &["81 °C"],
        &["55 % busy"],
        &["10.0 GiB of GPU 0 are in use, and no process is listed"],
    ] {
        let (_, remedy) = found.has("warn", words);
        assert!(!remedy.is_empty());
    }

    // A driver that does not tell is not complained of.
    machine.device(
        json!({ "persistence": null, "ecc_uncorrected": null, "retirement_pending": null, "mig": null }),
    );
    assert_eq!(machine.look().code, 0);
}

#[test]
fn another_driver_a_missing_library_and_a_missing_device_are_found() {
    let mut machine = Machine::new();
    machine.plan["host"]["expect"]["driver"] = json!("570.86.10");
    machine
        .look()
        .refused("stop", &["driver is 580.159.04", "570.86.10"]);
    machine.plan["host"] = json!({ "gpu": 3 });
    let found = machine.look();
    assert_eq!(found.code, 3);
    found.has("stop", &["3", "there is 0: Fake H100"]);
    let missing = machine.path().join("none.so");
    let output = machine
        .command(&["check", "plan.yaml", "--json"])
        .env("BENCHD_NVML_LIB", missing)
        .output()
        .unwrap();
    let (_, remedy) = Found::of(output).has("stop", &["none.so"]);
    assert!(remedy.contains("install the NVIDIA driver"), "{remedy}");
}

#[test]
fn somebody_on_the_gpu_is_named_and_refused_unless_the_plan_allows_it() {
    let mut machine = Machine::new();
    machine.gpu.hold(std::process::id(), 3 << 30);
    let pid = format!("pid {}", std::process::id());
    machine
        .look()
        .refused("stop", &["the GPU is not idle", &pid, "3072 MiB"]);
    machine.plan["host"]["exclusive"] = json!(false);
    let found = machine.look();
    assert_eq!(found.code, 0);
    found.has("warn", &["also on the GPU", &pid]);
}

#[test]
fn venvs_that_are_missing_half_made_or_of_another_version_are_told_apart() {
    let machine = Machine::new();
    machine.venv("3.12.8", &[("vllm", "0.14.0")]);
    let remedy = machine
        .look()
        .refused("lose", &["has vllm 0.14.0, the plan says 0.15.1"]);
    // Nothing here makes it.
    assert!(remedy.contains("frameworks.vllm.venv"), "{remedy}");
    machine.put("envs/vllm/setup.sh", "#!/bin/sh\n", 0o755);
    let remedy = machine
        .look()
        .refused("lose", &["has vllm 0.14.0, the plan says 0.15.1"]);
    assert!(remedy.contains("benchd env plan.yaml"), "{remedy}");

    // Another build of the same version.
    machine.venv("3.12.8", &[("vllm", "0.15.1+cu130")]);
    machine.look().has("ok", &["vllm 0.15.1+cu130"]);

    machine.venv("3.12.8", &[("torch", "2.9.1")]);
    machine
        .look()
        .refused("lose", &["vllm is not installed in envs/vllm/.venv"]);

    machine.venv("3.12.8", &[("vllm", "0.15.1")]);
    machine.put("envs/vllm/.venv/half-made", "", 0o644);
    machine.look().refused("lose", &["half-made"]);

    machine.venv("3.12.8", &[("vllm", "0.15.1")]);
    let python = machine.path().join("envs/vllm/.venv/bin/python3");
    fs::remove_file(&python).unwrap();
    std::os::unix::fs::symlink("/opt/gone/bin/python3", &python).unwrap();
    machine.look().refused("lose", &["a Python that is gone"]);

    fs::remove_dir_all(machine.path().join("envs/vllm/.venv")).unwrap();
    machine
        .look()
        .refused("lose", &["envs/vllm/.venv/bin/vllm is not there"]);
}

#[test]
fn an_environment_that_was_changed_after_it_was_made_is_told() {
    let machine = Machine::new();
    let environment = json!({ "version": "0.15.1", "python": "3.11.2", "resolved_sha256": "ab" });
    let record = json!({ "v": 1, "benchd_version": "0", "environment": environment });
    machine.put("envs/vllm/installed.json", &record.to_string(), 0o644);
    let found = machine.look();
    assert_eq!(found.code, 0);
    found.has("warn", &["were changed after it was made"]);
    found.has(
        "warn",
        &["was made with Python 3.11.2, and is of Python 3.12.8 now"],
    );
}

#[test]
fn a_cuda_that_is_newer_than_the_driver_is_found() {
    let machine = Machine::new();
    machine.venv("3.12.8", &[("vllm", "0.15.1"), ("nvidia_cuda_runtime", "14.0.1")]);
    machine.look().refused(
        "lose",
        &["built for CUDA 14.0, the driver 580.159.04 supports 13.0"],
    );
    machine.venv("3.12.8", &[("vllm", "0.15.1"), ("nvidia_cuda_runtime", "13.2.1")]);
    machine.look().has("warn", &["built for CUDA 13.2"]);
    // Not where the loader's own list has one: then removing this copy changes nothing.
    if !fs::read("/etc/ld.so.cache")
        .is_ok_and(|cache| String::from_utf8_lossy(&cache).contains("libcuda.so.1"))
    {
        machine.venv("3.12.8", &[("vllm", "0.15.1")]);
        fs::remove_file(machine.path().join("lib/libcuda.so.1")).unwrap();
        machine
            .look()
            .refused("lose", &["libcuda.so.1 is not on this machine"]);
    }
}

#[test]
fn an_ollama_of_another_version_a_broken_one_and_none_are_found() {
    let machine = Machine::new();
    machine.ollama("ollama version is 0.9.3");
    machine
        .look()
        .refused("lose", &["is version 0.9.3, the plan says 0.15.6"]);
    machine.ollama("Segmentation fault");
    machine
        .look()
        .refused("lose", &["does not tell its version", "Segmentation fault"]);
    machine.put("envs/ollama/bin/ollama", "text", 0o644);
    let remedy = machine
        .look()
        .refused("lose", &["envs/ollama/bin/ollama is not executable"]);
    assert!(remedy.contains("chmod +x"), "{remedy}");
    fs::remove_file(machine.path().join("envs/ollama/bin/ollama")).unwrap();
    machine
        .look()
        .refused("lose", &["envs/ollama/bin/ollama is not there"]);
}

#[test]
fn models_that_are_missing_or_cut_are_found() {
    let machine = Machine::new();
    machine.model(1 << 30, 1000);
    machine
        .look()
        .refused("lose", &["is not whole", "model.safetensors is cut"]);

    fs::remove_dir_all(machine.path().join("home/.cache")).unwrap();
    let remedy = machine
        .look()
        .refused("lose", &["org/llama is not on this machine"]);
    assert!(
        remedy.contains("benchd env plan.yaml")
            && remedy.contains("HF_TOKEN")
            && remedy.contains("/org/llama"),
        "{remedy}"
    );
    machine.model(1 << 30, 0);
    fs::remove_file(machine.path().join("home/.ollama/models/blobs/sha256-aa")).unwrap();
    machine.look().refused("lose", &["sha256-aa is missing"]);
    fs::remove_dir_all(machine.path().join("home/.ollama")).unwrap();
    machine
        .look()
        .refused("lose", &["llama:8b is not on this machine"]);
}

#[test]
fn a_model_that_is_too_large_for_the_gpu_is_found_with_what_would_help() {
    let mut machine = Machine::new();
    machine.device(json!({ "total_bytes": 34_190_917_632_u64 }));
    machine.model(16_060_522_496, 0);
    let remedy = machine.look().refused(
        "lose",
        &["vllm wants room for one request of 131072 tokens before it starts"],
    );
    assert!(remedy.contains("--max-model-len"), "{remedy}");
    machine.plan["models"]["llama"]["args"] = json!({ "vllm": ["--max-model-len", "8192"] });
    assert_eq!(machine.look().code, 0);
    machine.device(json!({ "total_bytes": 12_u64 << 30 }));
    machine.look().refused("lose", &["the weights take 15.0 GiB"]);
}

#[test]
fn a_taken_port_is_found_with_who_has_it() {
    let mut machine = Machine::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    machine.plan["frameworks"]["ollama"]["port"] = json!(taken.local_addr().unwrap().port());
    machine.look().refused(
        "lose",
        &[
            "ollama: port",
            "is taken by process",
            &std::process::id().to_string(),
        ],
    );
}

#[test]
fn a_gpu_that_another_benchd_holds_is_found_with_who_holds_it() {
    let machine = Machine::new();
    let held = benchd_host::process::Lock::gpu(&machine.uuid(), "pid 4711, plan other").unwrap();
    machine
        .look()
        .refused("stop", &["held by another benchd: pid 4711, plan other"]);
    drop(held);
    assert_eq!(machine.look().code, 0);
}

#[test]
fn a_server_of_someone_else_must_be_there() {
    let mut machine = Machine::new();
    let port = free_port();
    let there = TcpListener::bind(("127.0.0.1", port)).unwrap();
    machine.plan["models"]["llama"] = json!({ "openai": "m" });
    machine.plan["frameworks"] =
        json!({ "other": { "kind": "openai", "url": format!("http://127.0.0.1:{port}") } });
    machine.look().has("ok", &["somebody listens"]);
    drop(there);
    machine.look().refused("lose", &["nobody listens at 127.0.0.1"]);
    machine.plan["frameworks"] =
        json!({ "own": { "kind": "openai", "command": ["no-such-server", "{port}"], "port": port } });
    machine
        .look()
        .refused("lose", &["no `no-such-server` on the path"]);
}

#[test]
fn too_many_streams_for_the_open_files_are_found() {
    let machine = Machine::new();
    let mut limited = machine.command(&["check"]);
    let program = limited.get_program().to_string_lossy().into_owned();
    let environment: Vec<_> = limited
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 100; exec \"$0\" check plan.yaml --json"])
        .arg(program)
        .current_dir(machine.path());
    for (name, value) in environment {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    Found::of(limited.output().unwrap())
        .refused("lose", &["100 open files at most, 64 streams need about 320"]);
}

#[test]
fn only_what_is_to_run_is_looked_at() {
    let machine = Machine::new();
    fs::remove_dir_all(machine.path().join("envs/vllm")).unwrap();
    assert_eq!(machine.look().code, 3);
    let args = ["check", "plan.yaml", "--json", "--only", "framework=ollama"];
    let found = Found::of(machine.command(&args).output().unwrap());
    assert_eq!((found.code, found.bad().len()), (0, 0));
}

#[test]
fn a_secret_of_the_plan_is_not_shown() {
    let mut machine = Machine::new();
    machine.plan["frameworks"]["vllm"]["env"] = json!({ "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz" });
    machine.plan["models"]["llama"]["hf"] = json!("org/hf_abcdefghijklmnopqrstuvwxyz");
    let output = machine.command(&["check", "plan.yaml"]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("is not on this machine") && !text.contains("hf_abcdef"),
        "{text}"
    );
}
