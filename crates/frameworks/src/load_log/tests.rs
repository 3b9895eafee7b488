use super::*;
use crate::load_figures;

/// Lines of real servers' logs.
macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/start-logs/", $name, ".log"))
    };
}

fn gib(amount: f64) -> Option<u64> {
    bytes(amount, GIB)
}

fn mib(amount: f64) -> Option<u64> {
    bytes(amount, 1024.0 * 1024.0)
}

#[test]
fn vllm_on_a_gpu_tells_weights_cache_and_graphs() {
    assert_eq!(
        load_figures(recorded!("vllm-0.26.0-h100-llama31-8b")),
        LoadFigures {
            weights_bytes: gib(15.0),
            kv_cache_bytes: gib(50.97),
            kv_cache_tokens: Some(417_536),
            compute_bytes: gib(0.98),
            load_ms: Some(2627),
            devices: 1,
            on_host: false,
        }
    );
    // The same version's other runner words it otherwise.
    assert_eq!(
        load_figures(recorded!("vllm-0.26.0-h100-gpt-oss-20b")),
        LoadFigures {
            weights_bytes: gib(13.03),
            kv_cache_bytes: gib(50.59),
            kv_cache_tokens: Some(1_104_105),
            compute_bytes: gib(1.04),
            load_ms: Some(1174),
            devices: 1,
            on_host: false,
        }
    );
}

#[test]
fn vllm_on_a_cpu_says_nothing_of_its_weights() {
    assert_eq!(
        load_figures(recorded!("vllm-0.32.0-cpu")),
        LoadFigures {
            kv_cache_bytes: gib(1.0),
            kv_cache_tokens: Some(46_592),
            on_host: true,
            ..LoadFigures::default()
        }
    );
}

#[test]
fn every_rank_of_vllm_that_tells_is_counted() {
    let log = "\
(Worker_TP0 pid=71) INFO 02-01 10:00:00 [gpu_model_runner.py:3905] Model loading took 7.51 GiB memory and 3.2 seconds
(Worker_TP1 pid=72) INFO 02-01 10:00:00 [gpu_model_runner.py:3905] Model loading took 7.51 GiB memory and 4.5 seconds
(Worker_TP0 pid=71) INFO 02-01 10:00:09 [gpu_worker.py:358] Available KV cache memory: 28.50 GiB
(Worker_TP1 pid=72) INFO 02-01 10:00:09 [gpu_worker.py:358] Available KV cache memory: 28.50 GiB
";
    let two = load_figures(log);
    assert_eq!((two.weights_bytes, two.devices), (gib(7.51).map(|b| 2 * b), 2));
    assert_eq!(two.kv_cache_bytes, gib(28.5).map(|b| 2 * b));
    assert_eq!(two.load_ms, Some(4500), "the slowest");
}

#[test]
fn sglang_tells_weights_both_halves_of_the_cache_and_both_captures() {
    let told = load_figures(recorded!("sglang-0.5.17-h100-llama31-8b"));
    assert_eq!(told.weights_bytes, gib(15.02));
    assert_eq!(told.kv_cache_bytes, gib(23.88).map(|b| 2 * b));
    assert_eq!(told.kv_cache_tokens, Some(391_327));
    assert_eq!(
        told.compute_bytes,
        gib(1.47).zip(gib(0.18)).map(|(a, b)| a + b),
        "prefill and decode"
    );
    assert_eq!((told.load_ms, told.devices, told.on_host), (Some(180), 1, false));

    // Sliding windows: two pools.
    let told = load_figures(recorded!("sglang-0.5.17-h100-gpt-oss-20b"));
    assert_eq!(
        told.kv_cache_bytes,
        gib(13.27).zip(gib(10.62)).map(|(a, b)| 2 * a + 2 * b)
    );
    assert_eq!(
        told.kv_cache_tokens,
        Some(1_159_440),
        "the pool of whole contexts"
    );
    assert_eq!(told.load_ms, Some(880));

    let told = load_figures(recorded!("sglang-0.5.23-cpu"));
    assert_eq!(told.weights_bytes, gib(0.24));
    assert_eq!(told.kv_cache_bytes, gib(1.67).map(|b| 2 * b));
    assert_eq!(told.kv_cache_tokens, Some(155_664));
}

#[test]
fn sglangs_earlier_wording_its_ranks_and_a_latent_cache() {
    let log = "\
[2026-02-01 10:00:00 TP0] Load weight end. type=DeepseekV2ForCausalLM, dtype=torch.bfloat16, avail mem=61.10 GB, mem usage=14.98 GB.
[2026-02-01 10:00:00 TP1] Load weight end. type=DeepseekV2ForCausalLM, dtype=torch.bfloat16, avail mem=61.10 GB, mem usage=14.98 GB.
[2026-02-01 10:00:01 TP0] KV Cache is allocated. #tokens: 812345, KV size: 20.50 GB
[2026-02-01 10:00:01 TP1] KV Cache is allocated. #tokens: 812345, KV size: 20.50 GB
[2026-02-01 10:00:09 TP0] Capture cuda graph end. Time elapsed: 8.42 s. mem usage=0.91 GB. avail mem=9.61 GB.
";
    let told = load_figures(log);
    assert_eq!((told.weights_bytes, told.devices), (gib(14.98).map(|b| 2 * b), 2));
    assert_eq!(told.kv_cache_bytes, gib(20.5).map(|b| 2 * b));
    assert_eq!(told.kv_cache_tokens, Some(812_345));
    assert_eq!(told.compute_bytes, gib(0.91));
    assert_eq!(told.load_ms, None, "it did not say");
}

#[test]
fn of_ollamas_loads_the_newest_counts() {
    let log = recorded!("ollama-0.9.3-cpu");
    assert_eq!(log.matches("model buffer size").count(), 2, "it was loaded twice");
    assert_eq!(
        load_figures(log),
        LoadFigures {
            weights_bytes: mib(92.1),
            kv_cache_bytes: mib(78.75),
            kv_cache_tokens: Some(3584),
            compute_bytes: mib(98.25),
            load_ms: Some(510),
            devices: 1,
            on_host: true,
        }
    );
}

#[test]
fn ollamas_own_engine_names_devices_and_what_lies_on_the_host_is_left_out() {
    // 0.15's words; a look at the devices starts a runner too, and tells nothing.
    let log = r#"
time=T level=INFO source=server.go:431 msg="starting runner" cmd="ollama runner --ollama-engine --port 1"
time=T level=INFO source=server.go:431 msg="starting runner" cmd="ollama runner --ollama-engine --model m --port 2"
time=T level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="19.9 GiB"
time=T level=INFO source=device.go:245 msg="model weights" device=CPU size="28.3 GiB"
time=T level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="1.1 GiB"
time=T level=INFO source=device.go:256 msg="kv cache" device=CPU size="1.5 GiB"
time=T level=INFO source=device.go:262 msg="compute graph" device=CUDA0 size="884.1 MiB"
time=T level=INFO source=device.go:267 msg="compute graph" device=CPU size="270.6 MiB"
time=T level=INFO source=device.go:272 msg="total memory" size="52.0 GiB"
time=T level=INFO source=server.go:1388 msg="llama runner started in 9.16 seconds"
time=T level=INFO source=server.go:431 msg="starting runner" cmd="ollama runner --ollama-engine --port 3"
"#;
    assert_eq!(
        load_figures(log),
        LoadFigures {
            weights_bytes: gib(19.9),
            kv_cache_bytes: gib(1.1),
            kv_cache_tokens: None,
            compute_bytes: mib(884.1),
            load_ms: Some(9160),
            devices: 1,
            on_host: false,
        }
    );
}

#[test]
fn llama_servers_usual_words_tell_only_how_long_it_loaded() {
    assert_eq!(
        load_figures(recorded!("llamacpp-b11434-cpu")),
        LoadFigures {
            load_ms: Some(766),
            ..LoadFigures::default()
        }
    );
    // b11549 inside Python (envs/cpu-llamacpp).
    let log = "\
0.00.008.808 I srv    load_model: loading model 'm.gguf'
0.01.136.685 I cmn          init: llama threadpool init, n_threads = 1
0.01.257.918 I srv          init: model loaded
";
    assert_eq!(load_figures(log).load_ms, Some(1249));
    // With `-lv 4` it tells its buffers.
    let log = "\
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
load_tensors:        CUDA0 model buffer size =  4403.49 MiB
load_tensors:        CUDA1 model buffer size =  4403.49 MiB
llama_kv_cache:      CUDA0 KV buffer size =  1024.00 MiB
llama_kv_cache: size = 1024.00 MiB (  4096 cells,  32 layers,  4/4 seqs), K (f16):  512.00 MiB, V (f16):  512.00 MiB
llama_context:      CUDA0 compute buffer size =   560.00 MiB
llama_context:  CUDA_Host compute buffer size =    24.01 MiB
";
    let told = load_figures(log);
    assert_eq!(
        (told.weights_bytes, told.devices),
        (mib(4403.49).map(|b| 2 * b), 2)
    );
    assert_eq!(
        (told.kv_cache_bytes, told.compute_bytes),
        (mib(1024.0), mib(560.0))
    );
    assert_eq!(told.kv_cache_tokens, Some(4 * 4096), "cells of four streams");
}

#[test]
fn a_log_that_says_nothing_or_nonsense_gives_nothing() {
    assert_eq!(load_figures(""), LoadFigures::default());
    let log = "\
Model loading took long
Available KV cache memory: -3.2 GiB
GPU KV cache size: many tokens
KV Cache is allocated. #tokens: , K size: x GB, V size: y GB
 model buffer size = 12 parsecs
msg=\"model weights\" device= size=\"\"
load_model: loading model
llama_server: model loaded
Graph capturing finished in 7 secs, took 99999999999999999999999 GiB
(한국어 pid=] Load weight end. mem usage=";
    assert_eq!(load_figures(log), LoadFigures::default());
}
