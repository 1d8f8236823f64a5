//! The program `wasaba`. Everything is in the library; this only turns its result into an exit code.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: wasaba::process::allocator::Allocator = wasaba::process::allocator::Allocator;

fn main() -> std::process::ExitCode {
    wasaba::cli::main(std::env::args_os().collect())
}
