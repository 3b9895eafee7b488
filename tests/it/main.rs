//! Tests through the binary and on real processes.

mod env;
mod framework;
