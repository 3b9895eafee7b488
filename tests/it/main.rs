//! Tests through the binary and on real processes.

mod process;
mod server;
