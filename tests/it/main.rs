//! Tests through the binary and on real processes.

mod env;
mod gpu;
mod night;
mod process;
mod server;
mod sim;
mod sim_process;
mod support;
