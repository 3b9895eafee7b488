//! Tests through the binary and on real processes.

mod sim;
mod sim_process;
