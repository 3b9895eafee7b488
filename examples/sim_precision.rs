//! How precisely the simulated server holds its schedule on this machine, to be run by hand:
//!
//! ```text
//! cargo run --example sim_precision [-- STREAMS GAP_US [SECONDS]]
//! ```
//!
//! It starts `benchd sim` as a metronome in a process of its own (streams evenly spaced; more flags for it in
//! `SIM_FLAGS`), reads all streams with one bare epoll loop, and prints how late the server emitted (by its own count), how much CPU it took, and how much later a bare reader saw
//! the bytes. Two settings by default: 64 streams at 200 chunks/s and 1,000 streams at 20 chunks/s.
#![expect(
    clippy::unwrap_used,
    reason = "run by hand: a failure may stop it where it stands"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use benchd_sim::monotonic_ns;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

fn main() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    println!(
        "streams   rate/s   events  late p50    p99   p99.9     max  | reader p50    p99     max | sim CPU  per event"
    );
    match args[..] {
        [] => {
            measure(64, 5_000, 5);
            measure(1_000, 50_000, 5);
        }
        [streams, gap_us] => measure(streams, gap_us, 5),
        [streams, gap_us, seconds, ..] => measure(streams, gap_us, seconds),
        _ => eprintln!("usage: sim_precision [STREAMS GAP_US [SECONDS]]"),
    }
}

fn measure(streams: u64, gap_us: u64, seconds: u64) {
    let binary = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("benchd");
    let gap = format!("{gap_us}us");
    let spacing = format!("{}ns", gap_us * 1000 / streams);
    let mut sim = Command::new(binary)
        .args([
            "sim",
            "--mode",
            "fixed",
            "--ttft",
            "200ms",
            "--gap",
            &gap,
            "--spacing",
            &spacing,
        ])
        .args(std::env::var("SIM_FLAGS").unwrap_or_default().split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(sim.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let addr: SocketAddr = line["listening"].as_str().unwrap().parse().unwrap();

    let tokens = seconds * 1_000_000 / gap_us;
    let body = format!(
        r#"{{"model":"sim-model","messages":[{{"role":"user","content":"x"}}],"stream":true,"max_tokens":{tokens}}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let cpu_before = cpu_seconds(sim.id());
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let mut sockets: Vec<Option<TcpStream>> = (0..streams)
        .map(|_| Some(TcpStream::connect(addr).unwrap()))
        .collect();
    for (i, socket) in sockets.iter().flatten().enumerate() {
        (&*socket).write_all(request.as_bytes()).unwrap();
        epoll
            .add(socket, EpollEvent::new(EpollFlags::EPOLLIN, i as u64))
            .unwrap();
    }
    let lag = read_all(&epoll, &mut sockets);
    let cpu = cpu_seconds(sim.id()) - cpu_before;
    let stats = stats(addr);
    let late = |key: &str| stats["lateness_ns"][key].as_u64().unwrap() as f64 / 1000.0;
    let events = stats["events"].as_u64().unwrap();
    println!(
        "{streams:>7} {:>8} {events:>8} {:>7.0}us {:>5.0}us {:>6.0}us {:>6.0}us | {:>8.0}us {:>5.0}us {:>6.0}us | {:>6.1}% {:>8.2}us",
        streams * 1_000_000 / gap_us,
        late("p50"),
        late("p99"),
        late("p999"),
        late("max"),
        lag.value_at_quantile(0.5) as f64 / 1000.0,
        lag.value_at_quantile(0.99) as f64 / 1000.0,
        lag.max() as f64 / 1000.0,
        cpu / seconds as f64 * 100.0,
        cpu * 1e6 / events as f64,
    );
    sim.kill().unwrap();
    sim.wait().unwrap();
}

/// Reads until all streams are at their end: nanoseconds from each event's stamp to the read that brought it.
fn read_all(epoll: &Epoll, sockets: &mut [Option<TcpStream>]) -> hdrhistogram::Histogram<u64> {
    let mut lag = hdrhistogram::Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    let mut events = vec![EpollEvent::empty(); 1024];
    let (mut open, mut buffer) = (sockets.len(), vec![0; 1 << 16]);
    let stamp = memchr::memmem::Finder::new("\"t_ns\":");
    while open > 0 {
        let n = epoll.wait(&mut events, EpollTimeout::NONE).unwrap();
        for event in &events[..n] {
            let slot = &mut sockets[usize::try_from(event.data()).unwrap()];
            let Some(mut socket) = slot.as_ref() else { continue };
            let n = socket.read(&mut buffer).unwrap_or(0);
            let now = monotonic_ns();
            if n == 0 {
                *slot = None;
                open -= 1;
                continue;
            }
            for at in stamp.find_iter(&buffer[..n]) {
                // A stamp that is cut by the read's end is left out.
                let digits = buffer[..n].get(at + 7..at + 26).unwrap_or_default();
                if let Some(sent) = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|d| d.trim().parse::<u64>().ok())
                {
                    lag.saturating_record(now.saturating_sub(sent).max(1));
                }
            }
        }
    }
    lag
}

fn stats(addr: SocketAddr) -> serde_json::Value {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket
        .write_all(b"GET /sim/stats HTTP/1.1\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = procfs::process::Process::new(i32::try_from(pid).unwrap())
        .unwrap()
        .stat()
        .unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}
