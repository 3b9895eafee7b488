//! The program: all that it does is in the library, so that tests reach its parts.

fn main() -> std::process::ExitCode {
    benchd::main()
}
