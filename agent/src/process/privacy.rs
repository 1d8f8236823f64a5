//! Privacy: what other processes can see of this one in /proc, where a secret may be in the environment or in the memory.

use machine::roots;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Moves the environment out of the memory that /proc/PID/environ shows, and empties that. Must be called before there is a second
/// thread. Where /proc is not mounted, nothing is shown either.
pub fn conceal_environment() {
    let Some(shown) = shown_environment() else { return };
    let is_valid = |name: &std::ffi::OsStr| !name.is_empty() && !name.as_encoded_bytes().contains(&b'=');
    let variables = std::env::vars_os().collect::<Vec<_>>();
    for (name, value) in variables.iter().filter(|(name, _)| is_valid(name)) {
        #[expect(unsafe_code, reason = "changing the environment is unsafe by its nature; see SAFETY")]
        #[expect(clippy::disallowed_methods, reason = "the values stay the same, and move to the heap")]
        // SAFETY: there is no other thread yet that could read the environment.
        unsafe {
            std::env::set_var(name, value);
        };
    }
    #[expect(unsafe_code, reason = "the kernel's copy is not reached in another way; see SAFETY")]
    // SAFETY: the kernel has placed the initial environment there, above the stack, readable and writable for as long as the process
    // runs; it ends before anything else begins. The C library's pointers into it were all replaced above, and those to entries
    // without a valid name then lead to empty ones. The standard library copies what it reads.
    unsafe {
        std::ptr::with_exposed_provenance_mut::<u8>(shown.start).write_bytes(0, shown.len());
    };
}

/// The addresses of the memory that /proc/PID/environ shows.
fn shown_environment() -> Option<std::ops::Range<usize>> {
    addresses(&roots::read("/proc/self/stat".as_ref()).ok()?)
}

/// `env_start` and `env_end` in /proc/PID/stat, fields 50 and 51: see proc_pid_stat(5).
fn addresses(stat: &str) -> Option<std::ops::Range<usize>> {
    // The second field is the program's name in brackets, which may have spaces and brackets itself.
    let (_, fields) = stat.trim_end().rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(47).map(str::parse);
    let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
    (start > 0 && start < end).then_some(start..end)
}

/// Lets no other process of this user read this one's memory and environment (ptrace, /proc/PID/mem), and writes neither into a
/// core dump. Who may trace every process, as root may, still can.
pub fn hide_memory() {
    // Best effort: where the kernel refuses, it is as before.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_environment_are_read_behind_any_name_of_the_program() {
        let fields = (3..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(addresses(&format!("1 (a) b (c)) {fields}\n")), Some(50..51));
        // Who may not see them sees zeros.
        let hidden = fields.replace(" 50 51 ", " 0 0 ");
        assert_eq!(addresses(&format!("1 (a) {hidden}\n")), None);
        assert_eq!(addresses("1 (a) R 1\n"), None);
    }

    #[test]
    fn the_addresses_in_the_kernels_file_are_those_of_this_environment() {
        let shown = shown_environment().unwrap();
        let length = std::fs::read("/proc/self/environ").unwrap().len();
        assert_eq!(shown.len(), length);
    }
}
