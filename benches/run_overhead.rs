//! benchd's own cost in a whole run, on simulated servers: time from one server's release to the next one's launch,
//! memory at its highest, and CPU time beside 64 streams of 200 tokens a second.
//!
//! `cargo bench --bench run_overhead`

use std::{
    error::Error,
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

/// Servers, one after another.
const LANES: usize = 4;
/// Streams at a time.
const STREAMS: u32 = 64;
/// Requests a lane.
const REQUESTS: u32 = 192;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("overhead.yaml"), plan()?)?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .current_dir(dir.path())
        .args(["run", "overhead.yaml", "--no-selfcheck"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak_kib = 0;
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = field
            .and_then(|f| f.trim().split(' ').next()?.parse().ok())
            .unwrap_or(peak_kib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let journal = fs::read_to_string(dir.path().join("results/latest/journal.jsonl"))?;
    let (mut released_us, mut handovers_ms, mut cpu) = (None::<u64>, Vec::new(), Vec::new());
    for line in journal.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let at = entry["unix_us"].as_u64();
        let event = &entry["event"];
        if event.get("gpu_released").is_some() {
            released_us = at;
        }
        if event.get("server_launched").is_some()
            && let (Some(released), Some(launched)) = (released_us.take(), at)
        {
            handovers_ms.push((launched - released) as f64 / 1e3);
        }
        if let Some(ended) = event.get("cell_ended") {
            let of = |key: &str| ended["client"][key].as_f64().unwrap_or(0.0);
            let measured_us: f64 = ended["passes"]
                .as_array()
                .map(|passes| passes.iter().filter_map(|p| p["duration_us"].as_f64()).sum())
                .unwrap_or(0.0);
            cpu.push((
                of("cpu_us") / measured_us * 100.0,
                of("cpu_us") / of("events").max(1.0),
            ));
        }
    }
    println!("{LANES} lanes, {STREAMS} streams of 200 tokens/s, {REQUESTS} requests each: {status}");
    println!("release of one server to launch of the next: {handovers_ms:.0?} ms (bound: 250 ms)");
    println!(
        "memory at its highest: {:.1} MiB (bound: 64 MiB)",
        f64::from(peak_kib) / 1024.0
    );
    for (share, per_event_us) in cpu {
        println!("load thread: {share:.1} % of one core, {per_event_us:.1} µs an event");
    }
    Ok(())
}

fn plan() -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "version: 1\nname: overhead\nhost: { gpu: none }\nrequest: { timeout: 30s, warmup: 1 }\nmodels: { m: { openai: m } }\nframeworks:\n",
    );
    for lane in 0..LANES {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        text += &format!(
            "  sim{lane}:\n    kind: openai\n    port: {port}\n    command: [benchd, sim, --host, \"{{host}}\", --port, \"{{port}}\", --model, \"{{model}}\", --mode, fixed, --ttft, 50ms, --gap, 5ms]\n"
        );
    }
    text += &format!(
        "scenarios:\n  concurrent: {{ concurrency: {STREAMS}, input_tokens: 64, output_tokens: 200, requests: {REQUESTS}, prompts: identical }}\n"
    );
    Ok(text)
}
