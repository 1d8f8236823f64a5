//! Load averages: `loadavg1`, `loadavg5` and `loadavg15`, from `/proc/loadavg`.

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::Sample;

use crate::roots::{RereadFile, Roots};

/// Reads `/proc/loadavg`.
#[derive(Debug)]
pub struct Loadavg {
    loadavg: RereadFile,
}

impl Loadavg {
    /// A collector that reads below `roots`.
    #[must_use]
    pub fn open(roots: &Roots) -> Self {
        Self { loadavg: RereadFile::at(roots.proc.join("loadavg")) }
    }
}

impl Collector for Loadavg {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        let averages = parse(&self.loadavg.read()?);
        let averages = averages.ok_or_else(|| self.loadavg.fault("does not begin with three load averages"))?;
        let named = ["loadavg1", "loadavg5", "loadavg15"].into_iter().zip(averages);
        Ok(named.filter_map(|(name, value)| Sample::new(name, value).ok()).collect())
    }
}

/// `0.20 0.18 0.12 1/80 11206`. Something must follow the averages, or the third may have been cut.
fn parse(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split(' ');
    let averages = [average(fields.next()?)?, average(fields.next()?)?, average(fields.next()?)?];
    fields.next().map(|_| averages)
}

/// Digits and a point, as the kernel writes them: Rust alone would also accept `inf`, `-1` and `1e9`.
fn average(field: &str) -> Option<f64> {
    let plain = field.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    field.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_fields_are_the_averages() {
        assert_eq!(parse("0.21 0.37 1.39 3/719 19737\n"), Some([0.21, 0.37, 1.39]));
    }

    #[test]
    fn anything_but_three_averages_gives_nothing() {
        for text in ["", "0.21 0.37", "0.21 0.37 1.3", "a b c d", "inf 0.1 0.2 1/2", "-1 0 0 1/2", "1e9 0 0 1/2"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
