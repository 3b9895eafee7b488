//! What is known of a plan's lanes on a GPU, found before the night: an RTX 5090, a missing or an old nvcc, an old
//! driver, a vocabulary that is not there, each planted on a machine that is fit otherwise.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{fs, process::Command};

use serde_json::json;

use crate::{check::Machine, free_port};

/// A machine of the design's plans: SGLang and vLLM in venvs, on a GPU of this name and compute capability. Compilers are
/// those in its own folder `tools`.
fn machine(gpu: &str, compute: [i32; 2], memory_mib: u64) -> Machine {
    let mut machine = Machine::new();
    machine.plan["host"] = json!({ "gpu": 0 });
    machine.plan["models"] = json!({ "llama": { "hf": "org/llama" } });
    let venv = |kind: &str, version: &str| {
        let folder = format!("envs/{kind}/.venv");
        let site = machine.path().join(&folder).join("lib/python3.12/site-packages");
        fs::create_dir_all(site.join(format!("{kind}-{version}.dist-info"))).unwrap();
        machine.put(&format!("{folder}/pyvenv.cfg"), "version_info = 3.12.8\n", 0o644);
        for program in ["python3", kind] {
            machine.put(&format!("{folder}/bin/{program}"), "#!/bin/sh\n", 0o755);
        }
        json!({
            "kind": kind, "version": version, "venv": folder, "port": free_port(),
            "env": { "PATH": machine.path().join("tools"), "CUDA_HOME": machine.path().join("cuda") },
        })
    };
    let frameworks = json!({ "sglang": venv("sglang", "0.5.6.post2"), "vllm": venv("vllm", "0.15.1") });
    machine.plan["frameworks"] = frameworks;
    machine.plan["scenarios"] =
        json!({ "single": { "input_tokens": [512], "output_tokens": 256, "repeats": 2 } });
    // As NVML tells it.
    set_device(&machine, gpu, compute, memory_mib, "580.159.04");
    for tool in ["gcc", "c++"] {
        machine.put(
            &format!("tools/{tool}"),
            "#!/bin/sh\necho 'gcc (x) 11.4.0'\n",
            0o755,
        );
    }
    machine
}

fn set_device(machine: &Machine, gpu: &str, compute: [i32; 2], memory_mib: u64, driver: &str) {
    machine.gpu.set(&json!({
        "driver": driver,
        "devices": [{
            "uuid": machine.uuid(), "name": gpu, "total_bytes": memory_mib << 20, "compute_capability": compute,
        }],
    }));
}

fn nvcc(machine: &Machine, version: &str) {
    let says = format!("#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.61'\n");
    machine.put("cuda/bin/nvcc", &says, 0o755);
}

const RTX_5090: (&str, [i32; 2], u64) = ("NVIDIA GeForce RTX 5090", [12, 0], 32_607);
const A100: (&str, [i32; 2], u64) = ("NVIDIA A100-SXM4-80GB", [8, 0], 81_920);

fn on((gpu, compute, memory): (&str, [i32; 2], u64)) -> Machine {
    machine(gpu, compute, memory)
}

#[test]
fn sglang_without_a_backend_is_refused_on_an_rtx_5090_by_check_and_by_run_before_anything_is_started() {
    let mut machine = on(RTX_5090);
    nvcc(&machine, "12.8");
    let remedy = machine.look().refused(
        "stop",
        &["sglang / llama: does not start", "trtllm_mha", "pull/14842"],
    );
    assert!(remedy.contains("--attention-backend, flashinfer"), "{remedy}");

    let run = machine.command(&["run", "plan.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(
        said.contains("trtllm_mha") && said.contains("--skip-unfit"),
        "{said}"
    );
    assert!(!machine.path().join("results").exists(), "nothing was begun");

    // The arguments count as the plan's parts come together.
    machine.plan["models"]["llama"]["args"] = json!({ "sglang": ["--attention-backend=flashinfer"] });
    assert_eq!(machine.look().bad(), Vec::<String>::new());
    machine.plan["frameworks"]["sglang"]["version"] = json!("0.5.7");
    machine.plan["models"]["llama"]["args"] = json!({});
    let found = machine.look();
    assert!(
        !found.bad().iter().any(|text| text.contains("trtllm_mha")),
        "not of another version"
    );
}

#[test]
fn gpt_oss_is_refused_for_sglang_on_an_rtx_5090_and_left_out_with_a_reason() {
    let mut machine = on(RTX_5090);
    nvcc(&machine, "12.8");
    machine.plan["models"] = json!({ "gpt": { "hf": "openai/gpt-oss-20b" } });
    machine.plan["hypotheses"] = json!(["H1"]);
    let found = machine.look();
    found.has("stop", &["sglang / gpt", "MXFP4", "issues/13061"]);
    found.has("note", &["gpt: H1 can't be decided: not served by SGLang"]);
    machine.plan["models"]["gpt"]["not_on"] = json!({ "sglang": "no kernel" });
    let found = machine.look();
    assert!(
        !found.bad().iter().any(|text| text.contains("sglang")),
        "{:#?}",
        found.bad()
    );
    found.has("note", &["sglang / gpt is left out by the plan: no kernel"]);
    found.has("note", &["H1 can't be decided"]);
    machine.plan["models"]["gpt"]["not_on"] = json!({ "sglnag": "no kernel" });
    let output = machine.command(&["check", "plan.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("did you mean `sglang`?"), "{said}");
}

#[test]
fn a_missing_nvcc_and_one_that_is_too_old_are_found() {
    let machine = on(A100);
    machine
        .look()
        .refused("stop", &["sglang / llama", "FlashInfer", "there is no nvcc"]);
    nvcc(&machine, "12.1");
    let found = machine.look();
    assert_eq!((found.code, found.bad()), (0, Vec::new()));
    found.has("warn", &["sglang / llama", "12.6", "is 12.1.61"]);
    found.has(
        "note",
        &["servers compile at their first start", "attention kernels"],
    );
    nvcc(&machine, "12.8");
    let found = machine.look();
    assert!(
        !found.told.to_string().contains("nvcc is 12."),
        "nothing to say of it"
    );

    let mut machine = on(RTX_5090);
    machine.plan["frameworks"]["sglang"]["args"] = json!(["--attention-backend", "flashinfer"]);
    nvcc(&machine, "12.4");
    machine
        .look()
        .refused("stop", &["sglang / llama", "SM 12.0", "is 12.4.61"]);
    machine.plan["frameworks"]["sglang"]["args"] = json!(["--attention-backend", "triton"]);
    assert_eq!(machine.look().code, 0, "triton needs none");
    fs::remove_file(machine.path().join("tools/gcc")).unwrap();
    machine
        .look()
        .has("stop", &["Triton compiles a C file", "there is no C compiler"]);
}

#[test]
fn an_old_driver_is_found() {
    let mut machine = on(RTX_5090);
    machine.plan["frameworks"]["sglang"]["args"] = json!(["--attention-backend", "triton"]);
    assert_eq!(machine.look().code, 0);
    let (gpu, compute, memory) = RTX_5090;
    set_device(&machine, gpu, compute, memory, "560.35.05");
    let found = machine.look();
    assert_eq!(found.code, 3);
    found.has(
        "stop",
        &[
            "sglang, vllm / llama",
            "needs driver 570.26",
            "the driver is 560.35.05",
        ],
    );
}

#[test]
fn a_vocabulary_that_is_not_there_is_found_and_one_that_is_goes_to_the_server() {
    let mut machine = on(A100);
    nvcc(&machine, "12.8");
    machine.plan["models"] = json!({ "gpt": { "hf": "openai/gpt-oss-20b" } });
    let (_, remedy) = machine.look().has(
        "warn",
        &["vllm / gpt", "vocabulary", "o200k_base.tiktoken is not there"],
    );
    assert!(remedy.contains("benchd env"), "{remedy}");
    let env = machine
        .command(&["env", "plan.yaml", "--offline"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&env.stderr);
    assert!(
        said.contains("share/tiktoken/o200k_base.tiktoken is not there"),
        "{said}"
    );

    machine.put("envs/vllm/.venv/share/tiktoken/o200k_base.tiktoken", "", 0o644);
    let text = machine.look().told.to_string();
    assert!(!text.contains("o200k_base.tiktoken is not there"), "{text}");
    let dry = machine
        .command(&["run", "plan.yaml", "--dry-run"])
        .output()
        .unwrap();
    let dry = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.contains("TIKTOKEN_ENCODINGS_BASE="), "{dry}");
    assert!(
        dry.contains("known    note: vllm / gpt: vLLM serves MXFP4 here by Marlin"),
        "{dry}"
    );
}

#[test]
fn a_context_that_would_be_cut_and_too_few_graphs_are_told() {
    let mut machine = on(RTX_5090);
    machine.plan["models"] = json!({ "llama": {
        "hf": "org/llama", "ollama": "llama:8b", "args": { "ollama": ["num_ctx=512"] },
    } });
    machine.plan["frameworks"]["sglang"]["args"] = json!(["--attention-backend", "triton"]);
    machine.plan["frameworks"]["ollama"] = json!({ "binary": "envs/ollama/bin/ollama", "port": free_port() });
    machine.plan["scenarios"]["concurrent"] =
        json!({ "concurrency": [32], "input_tokens": 512, "output_tokens": 256, "requests": 64 });
    let found = machine.look();
    found.has("lose", &["ollama / llama", "cuts prompts"]);
    found.has("warn", &["sglang / llama", "up to 24 requests"]);
    machine.plan["models"]["llama"]["args"] =
        json!({ "ollama": ["num_ctx=1024"], "sglang": ["--cuda-graph-max-bs", "64"] });
    assert_eq!(machine.look().bad(), Vec::<String>::new());
}

#[test]
fn the_host_is_held_against_what_the_plan_expects() {
    let mut machine = on(A100);
    nvcc(&machine, "12.8");
    machine.plan["host"]["expect"] = json!({
        "cpu": "No Such Processor", "sockets": 64, "cores": 4096, "memory_gib": 1_000_000, "os": "Plan 9",
        "nvcc": "11.8",
    });
    let found = machine.look();
    for words in [
        "No Such Processor",
        "sockets of the CPU",
        "cores of the CPU",
        "1000000 GiB",
    ] {
        found.has("stop", &[words]);
    }
    found.has("warn", &["the plan expects Plan 9"]);
    found.has("warn", &["the plan expects nvcc 11.8"]);
    let run = machine.command(&["run", "plan.yaml"]).output().unwrap();
    assert_eq!(run.status.code(), Some(3));
}

#[test]
fn a_wrapper_in_the_place_of_a_venv_is_no_lost_lane_and_made_up_weights_are_not_0_mib() {
    let mut machine = on(A100);
    nvcc(&machine, "12.8");
    fs::remove_file(machine.path().join("envs/vllm/.venv/pyvenv.cfg")).unwrap();
    machine.plan["frameworks"]["vllm"]["args"] = json!(["--load-format", "dummy"]);
    machine.plan["frameworks"]
        .as_object_mut()
        .unwrap()
        .remove("sglang");
    let found = machine.look();
    assert_eq!((found.code, found.bad()), (0, Vec::new()), "the run measures it");
    found.has("warn", &["vllm: envs/vllm/.venv is no venv"]);
    found.has("note", &["llama: no weights are read"]);
    assert!(!found.told.to_string().contains("0 MiB of safetensors"));
}

#[test]
fn a_lane_of_an_unknown_version_is_said_not_to_be_judged_and_torchs_cuda_is_read_without_importing_it() {
    let mut machine = on(A100);
    nvcc(&machine, "12.8");
    let frameworks = machine.plan["frameworks"].as_object_mut().unwrap();
    frameworks.remove("sglang");
    frameworks["vllm"].as_object_mut().unwrap().remove("version");
    fs::remove_file(machine.path().join("envs/vllm/.venv/pyvenv.cfg")).unwrap();
    machine
        .look()
        .has("note", &["vllm / llama: not judged", "version"]);

    machine.put("envs/vllm/.venv/pyvenv.cfg", "version_info = 3.12.8\n", 0o644);
    let site = "envs/vllm/.venv/lib/python3.12/site-packages";
    machine.put(
        &format!("{site}/torch/version.py"),
        "__version__ = '2.11.0+cu132'\ncuda: Optional[str] = '13.2'\n",
        0o644,
    );
    let found = machine.look();
    found.has(
        "warn",
        &["vllm: built for CUDA 13.2 (torch 2.11.0+cu132)", "supports 13.0"],
    );
    assert!(
        !found.told.to_string().contains("not judged"),
        "its version is in the venv"
    );
}

/// `benchd check` on a shipped plan for a GPU that is not here, in the repository's own folder.
fn shipped(plan: &str, gpu: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["check", plan, "--gpu", gpu])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("BENCHD_NVML_LIB")
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn shipped_plans_have_no_lane_that_is_known_not_to_start_on_their_own_gpu() {
    for (plan, gpu) in [
        ("plans/a100.yaml", "a100"),
        ("plans/a100-short.yaml", "a100"),
        ("plans/a100-fair.yaml", "a100"),
        ("plans/rtx5090.yaml", "rtx5090"),
        ("plans/rtx5090-short.yaml", "rtx5090"),
    ] {
        let (code, text) = shipped(plan, gpu);
        assert_eq!(code, 0, "{plan}\n{text}");
        assert!(!text.contains("! warn"), "{plan}\n{text}");
    }
    let (_, text) = shipped("plans/rtx5090.yaml", "rtx5090");
    assert!(
        text.contains("gpt-oss-20b: H1, H2, H3 can't be decided: not served by SGLang"),
        "{text}"
    );
    assert!(
        text.contains("sglang / gpt-oss-20b is left out by the plan"),
        "{text}"
    );
    assert!(
        text.contains("that machine must have: Python.h, a C compiler, c++, driver >=531, driver >=570.26"),
        "{text}"
    );

    let (code, text) = shipped("plans/a100.yaml", "rtx5090");
    assert_eq!(code, 3, "{text}");
    for words in [
        "the plan expects a name with",
        "trtllm_mha",
        "FlashInfer's MXFP4 kernel",
        "131,072 tokens",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_gpu_that_nobody_knows_is_refused_with_those_that_are_known() {
    let output = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["check", "plans/a100.yaml", "--gpu", "voodoo2"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("voodoo2") && said.contains("rtx5090"), "{said}");
}
