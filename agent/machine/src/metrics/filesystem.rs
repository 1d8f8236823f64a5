//! File systems in bytes: `filesystem.<device>.size` and `.used`, for what is mounted from below `/dev/`.
//!
//! The size is the used space plus what users may still write, as `df` counts it: without the part reserved for root.

use std::collections::BTreeMap;

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::{Sample, segment};

use super::selection::{Current, Selection};
use crate::mounts;
use crate::mounts::Mounts;
use crate::mounts::prober::Prober;
use crate::roots::Roots;

/// Reads the table of mounts and the size of each.
#[derive(Debug)]
pub struct Filesystem {
    mounts: Mounts,
    selection: Current,
    warnings: Vec<String>,
}

impl Filesystem {
    /// A collector of the selected file systems below `roots`, with the sizes of this machine.
    #[must_use]
    pub fn open(roots: &Roots, selection: &Current) -> Self {
        Self::with(roots, selection, Prober::of_this_process())
    }

    pub(super) fn with(roots: &Roots, selection: &Current, prober: Prober) -> Self {
        Self { mounts: Mounts::open(roots, prober), selection: selection.clone(), warnings: Vec::new() }
    }
}

impl Collector for Filesystem {
    fn collect(&mut self, _: Moment) -> Result<Vec<Sample>, Fault> {
        self.warnings.clear();
        let selection = self.selection.get();
        // An ignored file system is not probed either: it may be the one that hangs.
        let wanted = |name: &str| name.starts_with("/dev/") && Selection::wants(selection.filesystems.as_ref(), name);
        let mut listing = self.mounts.list(wanted)?;
        // Some have another name in `df` than in the kernel's table.
        listing.filesystems.retain(|filesystem| wanted(&filesystem.name));
        self.warnings = listing.warnings;
        Ok(samples(&listing.filesystems, selection.use_mountpoint))
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

/// Of two with the same name (as of a device's subvolumes), the last one counts.
fn samples(filesystems: &[mounts::Filesystem], use_mountpoint: bool) -> Vec<Sample> {
    let label = |filesystem: &mounts::Filesystem| {
        let device = filesystem.name.strip_prefix("/dev/")?;
        Some(segment(if use_mountpoint { &filesystem.mount_point } else { device }))
    };
    let labelled: BTreeMap<String, &mounts::Filesystem> =
        filesystems.iter().filter_map(|filesystem| Some((label(filesystem)?, filesystem))).collect();
    let both = |(label, filesystem): (String, &mounts::Filesystem)| {
        let used = filesystem.used_kib as f64 * 1024.0;
        let size = (filesystem.used_kib as f64 + filesystem.available_kib as f64) * 1024.0;
        [("size", size), ("used", used)].map(|(what, bytes)| Sample::new(format!("filesystem.{label}.{what}"), bytes))
    };
    labelled.into_iter().flat_map(both).filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filesystem(name: &str, used_kib: u64) -> mounts::Filesystem {
        mounts::Filesystem {
            name: name.to_owned(),
            mount_point: "/".to_owned(),
            size_kib: 100,
            used_kib,
            available_kib: 50,
            percent_used: 1,
        }
    }

    #[test]
    fn the_size_does_not_include_what_is_reserved_for_root() {
        let samples = samples(&[filesystem("/dev/mapper/vg-root", 40)], false);
        let values: Vec<_> = samples.iter().map(|sample| (sample.name().as_str(), sample.value())).collect();
        let expected = [("filesystem.mapper_vg-root.size", 92_160.0), ("filesystem.mapper_vg-root.used", 40_960.0)];
        assert_eq!(values, expected);
    }

    #[test]
    fn the_last_row_of_a_name_counts_and_a_source_outside_of_dev_is_skipped() {
        let samples = samples(&[filesystem("/dev/sda1", 1), filesystem("/dev/sda1", 2), filesystem("tmpfs", 3)], false);
        assert_eq!(samples.iter().map(Sample::value).collect::<Vec<_>>(), [53_248.0, 2048.0]);
    }

    #[test]
    fn a_mount_point_may_be_the_name() {
        let samples = samples(&[filesystem("/dev/sda1", 1)], true);
        assert_eq!(samples[0].name().as_str(), "filesystem._.size");
    }
}
