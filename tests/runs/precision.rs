//! In which numbers servers serve, read from what each really says: through whole runs, from the launch to the report.

use std::fs;

use benchd_core::record::{FlagKind, Precision};
use benchd_journal::Event;
use serde_json::json;

use crate::{
    bench::Bench,
    ended::Ended,
    verdicts::{Server, stand_in},
};

/// A GGUF of one tensor in Q4_0, its data zeros.
fn gguf() -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.bytes());
    };
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend(1_u64.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    text(&mut out, "general.architecture");
    out.extend(8_u32.to_le_bytes());
    text(&mut out, "llama");
    text(&mut out, "blk.0.attn_q.weight");
    out.extend(2_u32.to_le_bytes());
    out.extend(64_u64.to_le_bytes());
    out.extend(64_u64.to_le_bytes());
    out.extend(2_u32.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.resize(out.len().next_multiple_of(32) + 64 * 64 / 32 * 18, 0);
    out
}

/// Four servers of one model: vLLM with weights that it makes up, by a hub folder of MXFP4; llama-server with a GGUF of the
/// plan's; Ollama, which says its own; and one of which nothing is known.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.plan["models"] = json!({
        "m": { "hf": "./models/m", "ollama": "m", "openai": "m", "gguf": "m.gguf", "precision": "bf16" },
    });
    bench.plan["scenarios"] = json!({ "single": { "input_tokens": [32], "output_tokens": 4, "repeats": 6 } });
    let model = bench.path().join("models/m");
    fs::create_dir_all(&model).unwrap();
    let config = json!({
        "model_type": "llama", "torch_dtype": "bfloat16", "quantization_config": { "quant_method": "mxfp4" },
    });
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    fs::write(bench.path().join("m.gguf"), gguf()).unwrap();
    let envs = bench.path().join("envs");
    let serves = |flags| Server { flags, says: "" };
    stand_in(&envs.join("vllm/bin/vllm"), "vllm", &serves("--decode-rate 1000"));
    stand_in(
        &envs.join("llama-server"),
        "llamacpp",
        &serves("--decode-rate 500"),
    );
    stand_in(
        &envs.join("ollama"),
        "ollama",
        &serves("--decode-rate 250 --quantization Q4_K_M"),
    );
    bench
        .server(
            "vllm",
            json!({ "kind": "vllm", "venv": "envs/vllm", "args": ["--load-format", "dummy", "--kv-cache-dtype", "fp8"] }),
        )
        .server(
            "llamacpp",
            json!({ "command": ["envs/llama-server", "-m", "{gguf}", "--port", "{port}"] }),
        )
        .server("ollama", json!({ "kind": "ollama", "binary": "envs/ollama" }))
        .sim("other", &[])
}

fn served(ended: &Ended, framework: &str) -> Precision {
    let ready = ended.events.iter().find_map(|event| match event {
        Event::ServerReady(ready) if ready.lane.framework == framework => Some(ready),
        _ => None,
    });
    let ready = ready.unwrap_or_else(|| panic!("{framework} was not ready:\n{}", ended.stderr));
    ready.precision.clone().unwrap()
}

#[test]
fn precision_is_read_journalled_flagged_and_named() {
    let bench = bench();
    let ended = bench.run(&[]);
    ended.assert_code(0);
    let told = |framework| {
        let precision = served(&ended, framework);
        [&precision.weights, &precision.kv_cache].map(|reading| match reading.value() {
            Some(format) => format!("{format} by {}", reading.from().unwrap()),
            None => "unknown".to_owned(),
        })
    };
    assert_eq!(told("vllm"), ["MXFP4 by config.json", "fp8 by --kv-cache-dtype"]);
    assert_eq!(
        told("llamacpp"),
        [
            "Q4_0 by GGUF header: Q4_0 100 %",
            "fp16 by llama-server's default"
        ]
    );
    assert_eq!(
        told("ollama"),
        ["Q4_K_M by /api/show", "fp16 by Ollama's default"]
    );
    assert_eq!(told("other"), ["unknown", "unknown"]);
    assert_eq!(served(&ended, "vllm").random_weights.value(), Some(&true));
    assert_eq!(served(&ended, "llamacpp").random_weights.value(), Some(&false));
    assert_eq!(served(&ended, "llamacpp").file_bytes, Some(gguf().len() as u64));

    // The plan expects bf16 of all of them.
    for (framework, seen) in [
        ("vllm", "served in MXFP4; the plan expects bf16"),
        ("llamacpp", "served in Q4_0; the plan expects bf16"),
        ("ollama", "served in Q4_K_M; the plan expects bf16"),
        (
            "other",
            "nothing says what the weights are served in; the plan expects bf16",
        ),
    ] {
        let flags = ended.events.iter().find_map(|event| match event {
            Event::CellEnded(cell) if cell.lane.framework == framework => Some(&cell.flags),
            _ => None,
        });
        let flag = flags
            .unwrap()
            .iter()
            .find(|flag| flag.kind == FlagKind::Precision);
        assert_eq!(flag.map(|flag| flag.seen.as_str()), Some(seen), "{framework}");
    }

    let run = ended.run.as_ref().unwrap();
    let md = fs::read_to_string(run.join("report.md")).unwrap();
    let (first, rest) = md.split_once("\n## ").unwrap();
    for said in [
        "Random weights in vLLM on m: answers mean nothing, speed only.",
        "the weights differ: MXFP4 in vLLM, Q4_0 in llamacpp, Q4_K_M in Ollama, of unknown precision in other",
        "(not like with like)",
        "· Q4_0:",
        "· precision unknown:",
    ] {
        assert!(first.replace("\\_", "_").contains(said), "{said}\n{first}");
    }
    // Four-fold speeds, and nobody is best.
    assert!(rest.contains("so no ★") && !rest.contains("★**"), "{rest}");
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(html.contains("llamacpp · Q4_0"), "the figures' legend names it");
    let csv = fs::read_to_string(run.join("summary.csv")).unwrap();
    let row = csv.lines().find(|row| row.starts_with("vllm,")).unwrap();
    assert!(row.ends_with(",mxfp4,fp8,true"), "{row}");
    let row = csv.lines().find(|row| row.starts_with("other,")).unwrap();
    assert!(row.ends_with(",,,"), "{row}");
}

#[test]
fn the_doctor_says_what_is_not_as_the_plan_expects() {
    let bench = bench();
    bench.write_plan();
    let said = bench.output(&["check", "plan.yaml"]);
    let text = format!("{}{}", said.stdout, said.stderr);
    for finding in [
        "llamacpp / m: the weights are Q4_0 (GGUF header: Q4_0 100 %); the plan expects bf16",
        "vllm / m: the weights are MXFP4 (config.json); the plan expects bf16",
        "vllm / m: random weights: answers mean nothing, speed only",
    ] {
        assert!(
            text.replace("\n   ", "").replace("  ", " ").contains(finding),
            "{finding}\n{text}"
        );
    }
}
