//! Tests through the binary and on real processes.

mod arrivals;
mod check;
mod env;
mod framework;
mod gpu;
mod night;
mod process;
mod sample_report;
mod selfcheck;
mod server;
mod sim;
mod sim_process;
mod support;
