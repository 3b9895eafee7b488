//! Tests through the binary and on real processes.

mod arrivals;
mod env;
mod gpu;
mod process;
mod server;
mod sim;
mod sim_process;
mod support;
