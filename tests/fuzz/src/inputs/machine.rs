//! The kernel's files, and those that describe the machine.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use machine::host::{Identity, describe};
use machine::metrics::ALL;
use machine::metrics::selection::Current;
use machine::mounts::Mounts;
use machine::mounts::prober::{Prober, Space};
use machine::roots::Roots;
use tempfile::TempDir;
use wasaba_core::collect::Moment;

use super::{pieces, text};

/// The file of each family of metrics.
const FILES: &[(&str, &str)] =
    &[("loadavg", "loadavg"), ("cpu", "stat"), ("memory", "meminfo"), ("interface", "net/dev"), ("disk", "diskstats")];

thread_local! {
    /// A machine without a file.
    static MACHINE: (TempDir, Roots) = empty();
}

fn empty() -> (TempDir, Roots) {
    let folder = tempfile::tempdir().unwrap();
    for folder_of_file in ["proc/self/net", "proc/net", "sys", "etc"] {
        std::fs::create_dir_all(folder.path().join(folder_of_file)).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let roots = Roots { proc: at("proc"), sys: at("sys"), dev: at("dev"), etc: at("etc"), metadata: None, host: None };
    (folder, roots)
}

/// The name of a family, its file, and the file a minute later.
pub fn metrics(data: &[u8]) {
    let pieces = pieces(data);
    let [family, files @ ..] = pieces.as_slice() else { return };
    let family = text(family);
    if family == "filesystem" {
        return files.iter().for_each(|file| mounts(file));
    }
    let Some((name, file)) = FILES.iter().find(|(name, _)| *name == family) else { return };
    MACHINE.with(|(_, roots)| {
        let family = ALL.iter().find(|family| family.name == *name).unwrap();
        let (mut collector, start) = ((family.open)(roots, &Current::default()), Instant::now());
        for (minute, content) in (0_u32..).zip(files.iter().take(3)) {
            for path in [roots.proc.join(file), roots.proc.join("self").join(file)] {
                write(&path, content);
            }
            let moment = Moment { unix_seconds: 0, instant: start + Duration::from_secs(60) * minute };
            let samples = collector.collect(moment).unwrap_or_default();
            let names = samples.iter().map(|sample| sample.name().as_str()).collect::<HashSet<_>>();
            assert_eq!(names.len(), samples.len(), "a name occurs twice: {samples:?}");
            for sample in &samples {
                assert!(sample.name().as_str().starts_with(name) && sample.value() >= 0.0, "{sample:?}");
            }
        }
    });
}

fn write(path: &Path, content: &[u8]) {
    if path.parent().is_some_and(Path::is_dir) {
        std::fs::write(path, content).unwrap();
    }
}

/// The kernel's table of mounts, all of which have the same size.
fn mounts(table: &[u8]) {
    MACHINE.with(|(_, roots)| {
        write(&roots.proc.join("self/mountinfo"), table);
        let space = Space { block_bytes: 4_096, blocks: 1_000, free: 500, available: 400 };
        let prober = Prober::new(move |_| Ok(space), Duration::from_secs(60));
        let mut mounts = Mounts::open(roots, prober);
        let listing = mounts.list(|_| true).unwrap();
        for filesystem in &listing.filesystems {
            assert!(filesystem.mount_point.starts_with('/') && filesystem.percent_used <= 100, "{filesystem:?}");
        }
        assert!(mounts.points().unwrap().len() >= listing.filesystems.len());
    });
}

/// `/proc/cpuinfo`, `/proc/meminfo` and `/etc/os-release` of a host.
pub fn host(data: &[u8]) {
    let pieces = pieces(data);
    MACHINE.with(|(folder, roots)| {
        for (file, content) in ["proc/cpuinfo", "proc/meminfo", "etc/os-release", "etc/lsb-release"].iter().zip(&pieces)
        {
            write(&folder.path().join(file), content);
        }
        serde_json::to_vec(&describe(roots, &Identity::default())).unwrap();
    });
}
