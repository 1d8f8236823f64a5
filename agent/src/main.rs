//! The program `wasaba`. Everything is in the library; this only turns its result into an exit code.

fn main() -> std::process::ExitCode {
    wasaba::cli::main(std::env::args_os().collect())
}
