//! File systems: every row of `df`, not only those with metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::mounts;
use crate::mounts::Mounts;
use crate::mounts::prober::Prober;
use crate::roots::Roots;

/// By name. Of several with the same name, such as `tmpfs`, the last one is posted.
pub(super) type Filesystems = BTreeMap<String, Filesystem>;

/// One row of `df`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Filesystem {
    kb_available: u64,
    kb_size: u64,
    kb_used: u64,
    mount: String,
    percent_used: String,
}

/// Empty where the mounts cannot be read. A mount that hangs is skipped; the metrics already warn of it.
pub(super) fn read(roots: &Roots, prober: Prober) -> Filesystems {
    let listing = Mounts::open(roots, prober).list(|_| true).unwrap_or_default();
    listing.filesystems.into_iter().map(described).collect()
}

fn described(row: mounts::Filesystem) -> (String, Filesystem) {
    let filesystem = Filesystem {
        kb_available: row.available_kib,
        kb_size: row.size_kib,
        kb_used: row.used_kib,
        mount: row.mount_point,
        percent_used: format!("{}%", row.percent_used),
    };
    (row.name, filesystem)
}
