//! The footprint: gives back memory that only the start needed, code and heap.
//!
//! The start of the agent runs through much of its own file (the command line, the configuration, linking WASI for each
//! plugin) that no minute needs again. Those pages stay mapped until the kernel is short of memory, and count as
//! the agent's until then. Dropped, they come back from the page cache when they are needed.

use std::ffi::c_void;
use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Lets each large block, a plugin's stack above all, be a mapping of its own, which is given back when it is freed. Left to
/// itself, the C library takes the first one that is freed as a reason to put all further ones into the heap, where they
/// leave touched pages behind: with a thousand plugins 20 MB. To be called first of all.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe door to its allocator")]
    // SAFETY: it takes no pointer and changes only where blocks will lie that are allocated from now on.
    let _accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
}

/// Gives back what was freed in the heap, which the C library otherwise keeps for later, and the pages of code that only the start ran.
pub fn release() {
    release_code();
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe door to its allocator")]
    // SAFETY: it takes no pointer, may be called at any time from any thread, and frees only what is free.
    let _trimmed = unsafe { libc::malloc_trim(0) };
}

/// Drops the mapped pages of this program's code and constants. Costs some milliseconds in all, for the call itself and
/// for the pages that are needed again; where it does not work, nothing happens.
fn release_code() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else { return };
    for range in maps.lines().filter_map(|line| never_written(line, &program)) {
        #[expect(unsafe_code, reason = "advising the kernel on memory is unsafe by its nature; see SAFETY")]
        // SAFETY: the range is a private mapping of the program's file that is not writable and was not at the start
        // either (see `never_written`), so each of its pages is as it is in the file, and reading it again gives the same.
        let dropped = unsafe { madvise(range.start as *mut c_void, range.end - range.start, Advice::LinuxDontNeed) };
        if let Err(error) = dropped {
            tracing::debug!("the pages of the program's code stay: {error}");
        }
    }
}

/// The addresses of a line of /proc/PID/maps, if it is a part of `program` that nothing ever writes to: the code, and the
/// constants, which are the file's beginning. The third part that is read-only now, the relocated one, was written to by the
/// dynamic loader and is not in the file like that.
fn never_written(line: &str, program: &Path) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset) = (fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let is_constant = permissions == "r--p" && usize::from_str_radix(offset, 16) == Ok(0);
    let wanted = path == program.to_str()? && (permissions == "r-xp" || is_constant);
    wanted.then_some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_that_are_as_in_the_file_are_dropped() {
        let maps = "\
            1000-2000 r--p 00000000 fe:00 1  /bin/wasaba\n\
            2000-3000 r-xp 00001000 fe:00 1  /bin/wasaba\n\
            3000-4000 r--p 00002000 fe:00 1  /bin/wasaba\n\
            4000-5000 rw-p 00003000 fe:00 1  /bin/wasaba\n\
            5000-6000 rw-p 00000000 00:00 0  [heap]\n\
            6000-7000 r-xp 00001000 fe:00 2  /lib/libc.so.6\n\
            7000-8000 r-xp 00000000 00:00 0\n";
        let dropped = maps.lines().filter_map(|line| never_written(line, Path::new("/bin/wasaba"))).collect::<Vec<_>>();
        assert_eq!(dropped, [0x1000..0x2000, 0x2000..0x3000]);
    }

    /// KiB of this program's code and constants that are in memory for it.
    fn resident() -> u64 {
        let (text, program) = (std::fs::read_to_string("/proc/self/smaps").unwrap(), std::env::current_exe().unwrap());
        let (mut sum, mut counts) = (0, false);
        for line in text.lines() {
            if let Some(rss) = line.strip_prefix("Rss:") {
                sum += if counts { rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap() } else { 0 };
            } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
                counts = never_written(line, &program).is_some();
            }
        }
        sum
    }

    /// Other tests run meanwhile and bring back what they need, so one of many tries has to show it.
    #[test]
    fn the_pages_of_the_programs_code_are_dropped_and_it_runs_on() {
        let dropped = (0..100).any(|_| {
            let before = resident();
            assert!(before > 0, "the program's code is not found");
            release();
            resident() < before
        });
        assert!(dropped, "{} KiB stay", resident());
    }
}
