//! Block devices: every entry of `/sys/block` with its attributes, unfiltered.

use std::collections::BTreeMap;
use std::path::Path;

use crate::roots;

/// Attributes by device name; the values are the kernel's text.
pub(super) type BlockDevices = BTreeMap<String, BTreeMap<&'static str, String>>;

/// Empty where there is no `/sys/block`, as in some containers.
pub(super) fn read(sys: &Path) -> BlockDevices {
    let folder = sys.join("block");
    // The entries are links into /sys/devices; a path through them works.
    let names = roots::names(&folder).into_iter();
    names.map(|name| (name.to_string_lossy().into_owned(), device(&folder.join(&name)))).collect()
}

fn device(folder: &Path) -> BTreeMap<&'static str, String> {
    let below = |folder: &Path, key: &'static str| Some((key, roots::read(&folder.join(key)).ok()?.trim().to_owned()));
    let own = ["size", "removable"].into_iter().filter_map(|key| below(folder, key));
    let folder = folder.join("device");
    own.chain(["model", "rev", "state", "timeout", "vendor"].into_iter().filter_map(|key| below(&folder, key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roots::frozen;

    #[test]
    fn links_are_followed_and_values_trimmed() {
        let devices = read(&frozen::roots().sys);
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["dm-0", "loop0", "nvme0n1", "sda"]);
        assert_eq!(devices["sda"]["vendor"], "ATA");
        assert_eq!(devices["dm-0"].keys().collect::<Vec<_>>(), [&"removable", &"size"]);
    }
}
