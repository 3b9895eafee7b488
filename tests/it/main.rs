//! Tests through the binary and on real processes.

mod arrivals;
mod check;
mod env;
mod environments;
mod framework;
mod gpu;
mod night;
mod process;
mod report_html;
mod sample_report;
mod selfcheck;
mod server;
mod sim;
mod sim_process;
mod support;
