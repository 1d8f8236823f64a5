//! Disks in operations per second: `disk.<device>.reads.delta` and `.writes.delta`, from `/proc/diskstats`.
//!
//! Partitions count like whole disks. Skipped are `dm-…`, whose numbers change from boot to boot, and devices that were never
//! used.

use std::collections::HashMap;

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::{Sample, segment};

use super::selection::{Current, Selection};
use super::throughput::{Counters, Throughput};
use crate::mounts::Mounts;
use crate::mounts::prober::Prober;
use crate::roots::{RereadFile, Roots, whole_lines};

/// Reads `/proc/diskstats`, and keeps the reading of the last minute.
#[derive(Debug)]
pub struct Disk {
    diskstats: RereadFile,
    mounts: Mounts,
    selection: Current,
    throughput: Throughput,
}

impl Disk {
    /// A collector that reads the selected disks below `roots`.
    #[must_use]
    pub fn open(roots: &Roots, selection: &Current) -> Self {
        Self {
            diskstats: RereadFile::at(roots.proc.join("diskstats")),
            mounts: Mounts::open(roots, Prober::of_this_process()),
            selection: selection.clone(),
            throughput: Throughput::default(),
        }
    }
}

impl Collector for Disk {
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault> {
        let selection = self.selection.get();
        let mut now = parse(&self.diskstats.read()?);
        // By the name of the device, even where the mount point replaces it.
        now.retain(|name, _| Selection::wants(selection.disks.as_ref(), name));
        if selection.use_mountpoint {
            now = by_mount_point(now, &self.mounts.points()?);
        }
        Ok(self.throughput.samples(moment, "disk", ["reads", "writes"], now))
    }
}

/// Each device under the segment of its mount point, where it has one, as in the official agent.
fn by_mount_point(counters: Counters, points: &[(String, String)]) -> Counters {
    let segments =
        points.iter().filter_map(|(name, point)| Some((segment(name.strip_prefix("/dev/")?), segment(point))));
    let segments = segments.collect::<HashMap<_, _>>();
    counters.into_iter().map(|(device, counts)| (segments.get(&device).cloned().unwrap_or(device), counts)).collect()
}

/// Completed reads and writes by device.
fn parse(text: &str) -> Counters {
    whole_lines(text).filter_map(line).collect()
}

/// `<major> <minor> <name>` and at least eleven columns; newer kernels added six to them. See Documentation/admin-guide/iostats.rst.
fn line(line: &str) -> Option<(String, [u64; 2])> {
    let mut fields = line.split_ascii_whitespace().skip(2);
    let name = segment(fields.next()?);
    let mut columns = [0_u64; 11];
    for column in &mut columns {
        *column = fields.next()?.parse().ok()?;
    }
    let [reads, _, _, _, writes, ..] = columns;
    let counts = !name.starts_with("dm-") && columns != [0; 11];
    counts.then_some((name, [reads, writes]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_the_first_column_and_writes_the_fifth() {
        let eleven = parse("   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n");
        let seventeen = parse(" 259 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n");
        assert_eq!(eleven, Counters::from([("sda".to_owned(), [1, 5])]));
        assert_eq!(eleven, seventeen);
    }

    #[test]
    fn device_mapper_and_unused_devices_are_skipped() {
        assert_eq!(parse("253 0 dm-0 1 2 3 4 5 6 7 8 9 10 11\n7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n"), Counters::new());
        assert_eq!(parse("7 0 loop0 0 0 0 0 0 0 0 0 0 0 1\n").len(), 1);
    }

    #[test]
    fn a_device_is_named_by_its_mount_point_where_it_has_one() {
        let points = [("/dev/sda1", "/"), ("/dev/nvme0n1p2", "/var/lib/my data"), ("tmpfs", "/tmp")];
        let points = points.map(|(name, point)| (name.to_owned(), point.to_owned()));
        let named =
            by_mount_point(Counters::from(["sda", "sda1", "nvme0n1p2"].map(|name| (name.to_owned(), [1, 2]))), &points);
        assert_eq!(named.into_keys().collect::<Vec<_>>(), ["_", "_var_lib_my_data", "sda"]);
    }

    #[test]
    fn a_short_line_costs_only_itself() {
        let counters =
            parse("\n3 1 hda1 1 2 3 4\n8 0 sda 1 2 3 4 5 6 7 8 9 x 11\n8 16 cciss/c0d0 1 2 3 4 5 6 7 8 9 10 11\n");
        assert_eq!(counters.into_keys().collect::<Vec<_>>(), ["cciss_c0d0"]);
    }
}
