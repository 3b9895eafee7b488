//! Tests through the binary and on real processes.

mod arrivals;
mod env;
mod framework;
mod gpu;
mod night;
mod process;
mod selfcheck;
mod server;
mod sim;
mod sim_process;
mod support;
