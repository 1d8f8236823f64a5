//! Throughput: the rates of two counters for each device, between the last reading and this one.
//!
//! Interfaces and disks share it; their own files say what is counted, and for which devices.

use std::collections::BTreeMap;
use std::time::Instant;

use wasaba_core::collect::Moment;
use wasaba_core::collect::rate::per_second;
use wasaba_core::sample::Sample;

/// Both counters by the device's segment in metric names. Of two devices with the same segment, the last one counts.
pub(super) type Counters = BTreeMap<String, [u64; 2]>;

/// Keeps the last reading.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    before: Option<(Instant, Counters)>,
}

impl Throughput {
    /// The rates between the last reading and `now` as `<family>.<device>.<counter>.delta`; `now` becomes the last one.
    pub(super) fn samples(&mut self, moment: Moment, family: &str, counters: [&str; 2], now: Counters) -> Vec<Sample> {
        let mut samples = Vec::new();
        if let Some((then, before)) = &self.before {
            let elapsed = moment.instant.duration_since(*then);
            for (device, values) in &now {
                let Some(earlier) = before.get(device) else { continue };
                for ((counter, before), now) in counters.into_iter().zip(earlier).zip(values) {
                    let rate = per_second(*before, *now, elapsed);
                    samples.extend(rate.and_then(|rate| named(family, device, counter, rate)));
                }
            }
        }
        self.before = Some((moment.instant, now));
        samples
    }
}

fn named(family: &str, device: &str, counter: &str, rate: f64) -> Option<Sample> {
    Sample::new(format!("{family}.{device}.{counter}.delta"), rate).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_needs_two_readings_of_a_counter_that_grew() {
        let mut throughput = Throughput::default();
        let start = Instant::now();
        let mut read = |seconds, devices: &[(&str, [u64; 2])]| -> Vec<(String, f64)> {
            let moment = Moment { unix_seconds: 0, instant: start + Duration::from_secs(seconds) };
            let counters = devices.iter().map(|(device, counters)| ((*device).to_owned(), *counters)).collect();
            let samples = throughput.samples(moment, "disk", ["reads", "writes"], counters);
            samples.into_iter().map(|sample| (sample.name().to_string(), sample.value())).collect()
        };
        assert_eq!(read(0, &[("sda", [10, 500]), ("gone", [1, 1])]), []);
        assert_eq!(read(30, &[("sda", [40, 499]), ("new", [7, 7])]), [("disk.sda.reads.delta".to_owned(), 1.0)]);
        assert_eq!(read(30, &[("sda", [40, 499])]), []);
    }
}
