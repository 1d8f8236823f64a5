//! Memory and swap in bytes: `memory.<what>`, from `/proc/meminfo`.
//!
//! The names are those that the official agent posts; Mackerel computes `memory.available` and `memory.swap_used` from them.

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::Sample;

use crate::roots::{RereadFile, Roots, whole_lines};

/// Reads `/proc/meminfo`.
#[derive(Debug)]
pub struct Memory {
    meminfo: RereadFile,
}

impl Memory {
    /// A collector that reads below `roots`.
    #[must_use]
    pub fn open(roots: &Roots) -> Self {
        Self { meminfo: RereadFile::at(roots.proc.join("meminfo")) }
    }
}

impl Collector for Memory {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        let samples = samples(&parse(&self.meminfo.read()?));
        if samples.is_empty() { Err(self.meminfo.fault("has none of the known lines")) } else { Ok(samples) }
    }
}

/// The lines that are posted, in bytes.
#[derive(Debug, Default, PartialEq)]
struct Meminfo {
    total: Option<u64>,
    free: Option<u64>,
    available: Option<u64>,
    buffers: Option<u64>,
    cached: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
    swap_cached: Option<u64>,
}

fn parse(text: &str) -> Meminfo {
    let mut meminfo = Meminfo::default();
    for (key, value) in whole_lines(text).filter_map(|line| line.split_once(':')) {
        let field = match key {
            "MemTotal" => &mut meminfo.total,
            "MemFree" => &mut meminfo.free,
            "MemAvailable" => &mut meminfo.available,
            "Buffers" => &mut meminfo.buffers,
            "Cached" => &mut meminfo.cached,
            "SwapTotal" => &mut meminfo.swap_total,
            "SwapFree" => &mut meminfo.swap_free,
            "SwapCached" => &mut meminfo.swap_cached,
            _ => continue,
        };
        *field = bytes(value);
    }
    meminfo
}

/// `  24684096 kB`: the kernel's kB are 1024 bytes.
fn bytes(value: &str) -> Option<u64> {
    value.strip_suffix(" kB")?.trim_ascii_start().parse::<u64>().ok()?.checked_mul(1024)
}

/// Kernels before 3.14 have no `MemAvailable`. There, as in the official agent, it is estimated as free, buffers and cached, and
/// these three are posted instead.
fn samples(meminfo: &Meminfo) -> Vec<Sample> {
    let Meminfo { total, free, available, buffers, cached, swap_total, swap_free, swap_cached } = *meminfo;
    let reclaimable = || free?.checked_add(buffers?)?.checked_add(cached?);
    let reclaimable = if available.is_none() { reclaimable() } else { None };
    let used = || total?.checked_sub(available.or(reclaimable)?);
    let without_available = |value: Option<u64>| value.filter(|_| reclaimable.is_some());
    let named = [
        ("memory.total", total),
        ("memory.used", used()),
        ("memory.mem_available", available),
        ("memory.buffers", without_available(buffers)),
        ("memory.cached", without_available(cached)),
        ("memory.free", without_available(free)),
        ("memory.swap_total", swap_total),
        ("memory.swap_free", swap_free),
        ("memory.swap_cached", swap_cached),
    ];
    named.into_iter().filter_map(|(name, value)| Sample::new(name, value? as f64).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, f64)> {
        samples(&parse(text)).into_iter().map(|sample| (sample.name().to_string(), sample.value())).collect()
    }

    #[test]
    fn without_available_the_parts_are_posted() {
        let text = std::fs::read_to_string(crate::roots::frozen::file("meminfo-of-an-old-kernel")).unwrap();
        let expected = [
            ("memory.total", 1_921_988.0),
            ("memory.used", 1_298_444.0),
            ("memory.buffers", 118_776.0),
            ("memory.cached", 430_728.0),
            ("memory.free", 74_040.0),
            ("memory.swap_total", 2_097_148.0),
            ("memory.swap_free", 2_000_000.0),
            ("memory.swap_cached", 1_340.0),
        ];
        assert_eq!(values(&text), expected.map(|(name, kib)| (name.to_owned(), kib * 1024.0)));
    }

    #[test]
    fn used_needs_every_part() {
        let names = |text| values(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\n"), ["memory.total"]);
        assert_eq!(names("MemTotal: 100 kB\nMemAvailable: 101 kB\n"), ["memory.total", "memory.mem_available"]);
    }

    #[test]
    fn a_truncated_line_gives_nothing() {
        for text in ["MemTotal: 100 kB", "MemTotal: 100 k\n", "MemTotal: 100\n", "MemTotal: -1 kB\n", "MemTotal:\n"] {
            assert_eq!(values(text), [], "{text:?}");
        }
    }
}
