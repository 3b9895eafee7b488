//! Entry point: parses, dispatches, picks the exit code.

fn main() {}
