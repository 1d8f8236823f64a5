//! Memory: selected lines of `/proc/meminfo`, as text such as `24684096kB`.

use std::collections::BTreeMap;

use crate::roots;
use crate::roots::{Roots, whole_lines};

/// By Mackerel's names.
pub(super) type Memory = BTreeMap<&'static str, String>;

/// The kernel's names, and Mackerel's.
const LINES: [(&str, &str); 28] = [
    ("MemTotal", "total"),
    ("MemFree", "free"),
    ("Buffers", "buffers"),
    ("Cached", "cached"),
    ("Active", "active"),
    ("Inactive", "inactive"),
    ("HighTotal", "high_total"),
    ("HighFree", "high_free"),
    ("LowTotal", "low_total"),
    ("LowFree", "low_free"),
    ("Dirty", "dirty"),
    ("Writeback", "writeback"),
    ("AnonPages", "anon_pages"),
    ("Mapped", "mapped"),
    ("Slab", "slab"),
    ("SReclaimable", "slab_reclaimable"),
    ("SUnreclaim", "slab_unreclaim"),
    ("PageTables", "page_tables"),
    ("NFS_Unstable", "nfs_unstable"),
    ("Bounce", "bounce"),
    ("CommitLimit", "commit_limit"),
    ("Committed_AS", "committed_as"),
    ("VmallocTotal", "vmalloc_total"),
    ("VmallocUsed", "vmalloc_used"),
    ("VmallocChunk", "vmalloc_chunk"),
    ("SwapCached", "swap_cached"),
    ("SwapTotal", "swap_total"),
    ("SwapFree", "swap_free"),
];

/// Empty where `/proc/meminfo` cannot be read.
pub(super) fn read(roots: &Roots) -> Memory {
    roots::read(&roots.proc.join("meminfo")).map_or_else(|_| Memory::new(), |text| parse(&text))
}

fn parse(text: &str) -> Memory {
    whole_lines(text).filter_map(line).collect()
}

fn line(line: &str) -> Option<(&'static str, String)> {
    let (key, value) = line.split_once(':')?;
    let (_, name) = LINES.iter().find(|(line, _)| *line == key)?;
    let kib: u64 = value.trim_start().strip_suffix(" kB")?.parse().ok()?;
    Some((name, format!("{kib}kB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_renamed_and_others_skipped() {
        let memory =
            parse("MemTotal:  24684096 kB\nMemAvailable: 1 kB\nActive(anon): 2 kB\nSlab: x kB\nSwapFree: 3 kB");
        assert_eq!(memory, Memory::from([("total", "24684096kB".to_owned())]));
    }
}
