//! CPU time by mode: `cpu.<mode>.percentage`, from the first line of `/proc/stat`.
//!
//! The modes add up to 100 for each CPU, so to 400 on four. Single CPUs have no metrics.

use std::time::Instant;

use wasaba_core::collect::rate::{LONGEST, SHORTEST};
use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::Sample;

use crate::roots::{RereadFile, Roots, whole_lines};

/// Reads `/proc/stat`, and keeps the times of the last minute.
#[derive(Debug)]
pub struct Cpu {
    stat: RereadFile,
    before: Option<(Instant, CpuTimes)>,
}

/// The modes in the order of the kernel's columns. A tenth, guest_nice, is not posted: nice contains it.
const MODES: [&str; 9] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest"];

/// The ticks spent in each of [`MODES`] since boot. Old kernels have fewer modes.
#[derive(Debug, PartialEq)]
struct CpuTimes {
    cpus: usize,
    ticks: Vec<Option<u64>>,
}

impl Cpu {
    /// A collector that reads below `roots`.
    #[must_use]
    pub fn open(roots: &Roots) -> Self {
        Self { stat: RereadFile::at(roots.proc.join("stat")), before: None }
    }
}

impl Collector for Cpu {
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault> {
        let now = parse(&self.stat.read()?);
        let now = now.ok_or_else(|| self.stat.fault("does not begin with the times of all CPUs"))?;
        let samples = match &self.before {
            Some((then, before)) if (SHORTEST..=LONGEST).contains(&moment.instant.duration_since(*then)) => {
                samples(before, &now)
            }
            _ => Vec::new(),
        };
        self.before = Some((moment.instant, now));
        Ok(samples)
    }
}

/// The first line, and the number of `cpuN` lines after it. Something must follow those, or some may have been cut.
fn parse(text: &str) -> Option<CpuTimes> {
    let mut lines = whole_lines(text);
    let columns = lines.next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let columns: Vec<u64> = columns.map(|column| column.parse().ok()).collect::<Option<_>>()?;
    let mut cpus = 0;
    while lines.next()?.starts_with("cpu") {
        cpus += 1;
    }
    let mut ticks: Vec<_> = columns.into_iter().map(Some).take(MODES.len()).collect();
    // The kernel counts a guest's time twice, as guest and as user.
    if let [user, _, _, _, _, _, _, _, Some(guest)] = ticks.as_mut_slice() {
        *user = user.and_then(|user| user.checked_sub(*guest));
    }
    (ticks.len() >= 4 && cpus > 0).then_some(CpuTimes { cpus, ticks })
}

/// Each mode's share of the ticks in between, all CPUs together being `cpus` × 100.
///
/// A mode that decreased (iowait may; see proc_stat(5)) has no share and is not part of the whole. If CPUs were added or removed,
/// the two cannot be compared.
fn samples(before: &CpuTimes, now: &CpuTimes) -> Vec<Sample> {
    if before.cpus != now.cpus || before.ticks.len() != now.ticks.len() {
        return Vec::new();
    }
    let growths = before.ticks.iter().zip(&now.ticks).map(|(before, now)| now.as_ref()?.checked_sub((*before)?));
    let growths: Vec<Option<u64>> = growths.collect();
    let whole: u64 = growths.iter().flatten().fold(0, |sum, growth| sum.saturating_add(*growth));
    let share = |(mode, growth): (&str, &Option<u64>)| {
        let percentage = (*growth)? as f64 * now.cpus as f64 * 100.0 / whole as f64;
        // Without a tick in between this is 0 / 0, which gives no sample.
        Sample::new(format!("cpu.{mode}.percentage"), percentage).ok()
    };
    MODES.into_iter().zip(&growths).filter_map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cpus: usize, ticks: &[u64]) -> CpuTimes {
        CpuTimes { cpus, ticks: ticks.iter().copied().map(Some).collect() }
    }

    fn values(before: &CpuTimes, now: &CpuTimes) -> Vec<(String, f64)> {
        samples(before, now).into_iter().map(|sample| (sample.name().to_string(), sample.value())).collect()
    }

    #[test]
    fn user_does_not_include_guest() {
        let text = "cpu  1000 20 300 4000 50 6 7 8 90 1\ncpu0 1 1\ncpu1 1 1\nintr 5\n";
        assert_eq!(parse(text), Some(times(2, &[910, 20, 300, 4000, 50, 6, 7, 8, 90])));
    }

    #[test]
    fn an_old_kernel_has_fewer_modes() {
        assert_eq!(parse("cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 5\n"), Some(times(1, &[1, 2, 3, 4])));
    }

    #[test]
    fn a_truncated_list_of_cpus_gives_nothing() {
        for text in [
            "",
            "cpu  1 2 3 4",
            "cpu  1 2 3 4\ncpu0 1 2 3 4\n",
            "cpu  1 2 3\ncpu0 1\nintr\n",
            "cpu 1 2 x 4\ncpu0\nintr\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_modes_add_up_to_a_hundred_for_each_cpu() {
        let values = values(&times(4, &[0; 9]), &times(4, &[30, 1, 20, 40, 3, 1, 2, 2, 1]));
        assert_eq!(values.iter().map(|(_, value)| value).sum::<f64>(), 400.0);
        assert_eq!(values[0], ("cpu.user.percentage".to_owned(), 120.0));
    }

    #[test]
    fn a_mode_that_decreased_is_skipped() {
        let values = values(&times(1, &[0, 0, 0, 0, 70]), &times(1, &[30, 0, 20, 50, 60]));
        let names: Vec<_> = values.iter().map(|(name, value)| (&**name, *value)).collect();
        assert_eq!(
            names,
            [
                ("cpu.user.percentage", 30.0),
                ("cpu.nice.percentage", 0.0),
                ("cpu.system.percentage", 20.0),
                ("cpu.idle.percentage", 50.0)
            ]
        );
    }

    #[test]
    fn a_stopped_clock_or_another_number_of_cpus_gives_nothing() {
        let some = times(2, &[1, 2, 3, 4]);
        assert_eq!(values(&some, &some), []);
        assert_eq!(values(&some, &times(3, &[10, 20, 30, 40])), []);
        assert_eq!(values(&some, &times(2, &[10, 20, 30, 40, 50])), []);
    }
}
