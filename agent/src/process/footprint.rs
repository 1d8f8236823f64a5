//! The footprint: returns memory to the kernel that only the startup needed, code and heap.
//!
//! A peak leaves the heap with pages that nothing uses; they are returned in the next minute.
//!
//! During startup the agent runs much of its code (the command line, the configuration, linking WASI for each plugin) that no later
//! minute runs. Those pages stay mapped, and count as the agent's, until the kernel is short of memory. Once dropped, they are read
//! from the page cache again when they are needed.

use std::ffi::c_void;
use std::ops::Range;
use std::path::Path;

use machine::roots;
use rustix::mm::{Advice, madvise};

/// Makes the C library give each large block, mainly the stacks of plugins, its own mapping, which is unmapped when it is freed.
/// By default (glibc's dynamic threshold), after the first one is freed all further ones are put into the heap, where they leave
/// touched pages behind: 20 MB with a thousand plugins. Must be called before anything else.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe interface to its allocator")]
    // SAFETY: it takes no pointer, and affects only blocks that are allocated later.
    let _accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
}

/// So many pages more or less than before are a peak that came or went: 16 MiB.
const PEAK_PAGES: usize = 4096;

/// What is given back, and when.
#[derive(Debug, Default)]
pub struct Footprint {
    /// The fewest and the most anonymous pages that were in memory after the last release and at the end of each minute since.
    since_release: Option<(usize, usize)>,
}

impl Footprint {
    /// Returns freed heap memory and the pages of code that only the startup ran.
    pub fn release(&mut self) {
        release_code();
        self.release_heap();
    }

    /// Returns freed heap memory if there was a peak: within the last minute, or before it.
    pub fn after_minute(&mut self) {
        if self.notes_peak(anonymous_pages()) {
            self.release_heap();
        }
    }

    /// Whether so many pages are many more or fewer than there were since the last release.
    fn notes_peak(&mut self, now: usize) -> bool {
        let (fewest, most) = self.since_release.unwrap_or((now, now));
        self.since_release = Some((fewest.min(now), most.max(now)));
        now > fewest + PEAK_PAGES || now + PEAK_PAGES < most
    }

    /// Notes that so many pages were left by a release, which may have been in the middle of a peak.
    fn released(&mut self, left: usize) {
        self.since_release = Some((left, left));
    }

    fn release_heap(&mut self) {
        #[cfg(target_env = "gnu")]
        #[expect(unsafe_code, reason = "the C library has no safe interface to its allocator")]
        // SAFETY: it takes no pointer, may be called at any time from any thread, and releases only memory that is free.
        let _trimmed = unsafe { libc::malloc_trim(0) };
        #[cfg(target_env = "musl")]
        super::allocator::give_back(mapped);
        self.released(anonymous_pages());
    }
}

/// The addresses that this process has mapped, the lowest first. Mappings side by side are one.
pub fn mapped() -> Vec<Range<usize>> {
    let maps = roots::read("/proc/self/maps".as_ref()).unwrap_or_default();
    let mut mapped = Vec::<Range<usize>>::new();
    for range in maps.lines().filter_map(|line| addresses(line.split(' ').next()?)) {
        match mapped.last_mut().filter(|before| before.end == range.start) {
            Some(before) => before.end = range.end,
            None => mapped.push(range),
        }
    }
    mapped
}

/// `START-END`, hexadecimal.
fn addresses(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

fn anonymous_pages() -> usize {
    let text = roots::read("/proc/self/statm".as_ref()).unwrap_or_default();
    // Those that are mapped, those of them in memory, and those of these that are shared with a file (proc(5)).
    let mut numbers = text.split(' ').skip(1).map_while(|number| number.parse::<usize>().ok());
    numbers.next().unwrap_or_default().saturating_sub(numbers.next().unwrap_or_default())
}

/// Drops the mapped pages of this program's code and constants. Costs some milliseconds in all, for the call and for the pages that
/// are needed again. A failure is harmless.
fn release_code() {
    let (Ok(maps), Ok(program)) = (roots::read("/proc/self/maps".as_ref()), std::env::current_exe()) else { return };
    for range in maps.lines().filter_map(|line| constant_range(line, &program)) {
        #[expect(unsafe_code, reason = "advising the kernel on memory is unsafe by its nature; see SAFETY")]
        // SAFETY: the range is a private mapping of the program's file that is not writable and never was (see
        // `constant_range`), so each of its pages equals the file, and reading it again gives the same content.
        let dropped = unsafe { madvise(range.start as *mut c_void, range.end - range.start, Advice::LinuxDontNeed) };
        if let Err(error) = dropped {
            tracing::debug!("cannot drop the pages of the program's code: {error}");
        }
    }
}

/// The addresses in a line of /proc/PID/maps, if it is a part of `program` that is never written to: the code, and the constants,
/// which are at the start of the file. The third part that is read-only, the relocated one, was written by the dynamic loader and
/// differs from the file.
fn constant_range(line: &str, program: &Path) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let range = addresses(fields.next()?)?;
    let (permissions, offset) = (fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let is_constant = permissions == "r--p" && usize::from_str_radix(offset, 16) == Ok(0);
    let is_ours = path == program.to_str()? && (permissions == "r-xp" || is_constant);
    is_ours.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_noticed_within_a_minute_before_it_and_if_the_last_release_was_in_its_middle() {
        let peaks = |pages: &[usize]| {
            let mut footprint = Footprint::default();
            pages.iter().map(|now| footprint.notes_peak(*now)).collect::<Vec<_>>()
        };
        assert_eq!(peaks(&[1_000, 1_500, 1_000]), [false, false, false]);
        assert_eq!(peaks(&[1_000, 9_000]), [false, true]);
        assert_eq!(peaks(&[40_000, 39_000, 9_000]), [false, false, true]);
        let mut footprint = Footprint::default();
        footprint.released(40_000);
        assert!(footprint.notes_peak(9_000));
        footprint.released(2_500);
        assert!(!footprint.notes_peak(2_600));
    }

    #[test]
    fn only_parts_that_equal_the_file_are_dropped() {
        let maps = "\
            1000-2000 r--p 00000000 fe:00 1  /bin/wasaba\n\
            2000-3000 r-xp 00001000 fe:00 1  /bin/wasaba\n\
            3000-4000 r--p 00002000 fe:00 1  /bin/wasaba\n\
            4000-5000 rw-p 00003000 fe:00 1  /bin/wasaba\n\
            5000-6000 rw-p 00000000 00:00 0  [heap]\n\
            6000-7000 r-xp 00001000 fe:00 2  /lib/libc.so.6\n\
            7000-8000 r-xp 00000000 00:00 0\n";
        let dropped =
            maps.lines().filter_map(|line| constant_range(line, Path::new("/bin/wasaba"))).collect::<Vec<_>>();
        assert_eq!(dropped, [0x1000..0x2000, 0x2000..0x3000]);
    }

    /// How much of the program's code and constants is in memory, in KiB.
    fn resident_kib() -> u64 {
        let (smaps, program) = (std::fs::read_to_string("/proc/self/smaps").unwrap(), std::env::current_exe().unwrap());
        let (mut sum, mut is_ours) = (0, false);
        for line in smaps.lines() {
            match line.strip_prefix("Rss:") {
                Some(rss) if is_ours => sum += rss.trim_end_matches("kB").trim().parse::<u64>().unwrap(),
                None if !line.split(' ').next().unwrap().ends_with(':') => {
                    is_ours = constant_range(line, &program).is_some()
                }
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn released_code_leaves_memory() {
        // Other tests may run more code meanwhile, so one success in several attempts counts.
        let shrank = (0..10).any(|_| {
            let before = resident_kib();
            release_code();
            before > 0 && resident_kib() < before
        });
        assert!(shrank);
    }
}
