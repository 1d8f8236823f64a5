//! Processors: one entry per logical CPU, from `/proc/cpuinfo`, with its maximum speed from `/sys`.

use std::path::Path;

use serde::Serialize;

use crate::roots;
use crate::roots::{Roots, whole_lines};

/// One logical CPU. All values are text, and the keys in alphabetical order, as the official agent sends them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cpu {
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    core_id: Option<String>,
    /// Always 1, as the entry stands for one.
    cores: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mhz: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stepping: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_id: Option<String>,
    /// The kernel's number; not sent.
    #[serde(skip)]
    number: u32,
}

/// Empty where `/proc/cpuinfo` cannot be read.
pub(super) fn read(roots: &Roots) -> Vec<Cpu> {
    let mut cpus = roots::read(&roots.proc.join("cpuinfo")).map_or_else(|_| Vec::new(), |text| parse(&text));
    for cpu in &mut cpus {
        let folder = roots.sys.join(format!("devices/system/cpu/cpu{}", cpu.number));
        cpu.mhz = top_mhz(&folder.join("cpufreq/cpuinfo_max_freq")).or(cpu.mhz.take());
        let core_id = || Some(roots::read(&folder.join("topology/core_id")).ok()?.trim().to_owned());
        cpu.core_id = cpu.core_id.take().or_else(core_id);
    }
    cpus
}

/// The maximum says more about a CPU than its speed at this moment. The file is in kHz.
fn top_mhz(path: &Path) -> Option<String> {
    let khz: u32 = roots::read(path).ok()?.trim().parse().ok()?;
    Some((f64::from(khz) / 1000.0).to_string())
}

/// Each `processor` line begins a CPU. Lines before the first, and unknown keys, are skipped.
fn parse(text: &str) -> Vec<Cpu> {
    let mut cpus: Vec<Cpu> = Vec::new();
    for (key, value) in whole_lines(text).filter_map(|line| line.split_once(':')) {
        let (key, value) = (key.trim(), value.trim());
        if key == "processor" {
            cpus.extend(value.parse().map(|number| Cpu { number, cores: "1", ..Cpu::default() }));
            continue;
        }
        let Some(cpu) = cpus.last_mut() else { continue };
        let field = match key {
            "vendor_id" => &mut cpu.vendor_id,
            "cpu family" => &mut cpu.family,
            "model" => &mut cpu.model,
            "model name" => &mut cpu.model_name,
            "stepping" => &mut cpu.stepping,
            "physical id" => &mut cpu.physical_id,
            "core id" => &mut cpu.core_id,
            "cache size" => &mut cpu.cache_size,
            "cpu MHz" => &mut cpu.mhz,
            _ => continue,
        };
        // Through a number, since the official agent writes 2100.000 as 2100.
        let value =
            if key == "cpu MHz" { value.parse().map(|mhz: f64| mhz.to_string()).ok() } else { Some(value.into()) };
        *field = value.filter(|value: &String| !value.is_empty());
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_is_an_entry() {
        let cpus = parse("processor\t: 0\nvendor_id\t: A\ncpu MHz\t\t: 2100.000\n\nprocessor\t: 7\nvendor_id\t: B\n");
        assert_eq!(cpus.len(), 2);
        assert_eq!((&cpus[0].vendor_id, &cpus[0].mhz), (&Some("A".to_owned()), &Some("2100".to_owned())));
        assert_eq!((cpus[1].number, &cpus[1].mhz), (7, &None));
    }

    #[test]
    fn unknown_and_empty_values_are_skipped() {
        let cpus = parse("vendor_id\t: lost\nprocessor\t: 0\nBogoMIPS\t: 50.00\nmodel name\t: \n");
        assert_eq!(serde_json::to_string(&cpus).unwrap(), r#"[{"cores":"1"}]"#);
    }
}
