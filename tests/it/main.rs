//! Tests through the binary and on real processes.

#[path = "support/alone.rs"]
mod alone;
mod arrivals;
mod check;
mod env;
mod environments;
mod framework;
mod gpu;
mod known;
mod night;
#[expect(dead_code, reason = "the other test binary uses the rest")]
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#[path = "../runs/ports.rs"]
mod ports;
mod process;
mod report_html;
mod sample_report;
mod selfcheck;
mod server;
mod sim;
mod sim_process;
mod support;

/// A free port, kept from other tests until this process ends.
fn free_port() -> u16 {
    let port = ports::Port::free();
    let number = port.number();
    std::mem::forget(port);
    number
}
