//! The mounted file systems and how full they are: what `df -Pkl` prints, without running it.
//!
//! Like `df -l` it skips remote and empty file systems and lists one mount for each device. Unlike `df` it does not wait for a
//! file system that hangs, and one that fails does not cost the others.

pub mod prober;
mod table;

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use prober::{Answer, Prober, Space};
use wasaba_core::collect::Fault;

use crate::roots::{RereadFile, Roots};

/// The local file systems, read again at each call.
#[derive(Debug)]
pub struct Mounts {
    table: RereadFile,
    /// For a host's mounts: where its `/` is mounted here, and this container's own table, which says which of them are visible.
    host: Option<(PathBuf, RereadFile)>,
    /// Where the devices are.
    dev: PathBuf,
    prober: Prober,
}

/// The result of one reading.
#[derive(Debug, Default)]
pub struct Listing {
    /// In the order of the kernel's table.
    pub filesystems: Vec<Filesystem>,
    /// The mounts that were skipped, and why; in the same words as long as the reason is the same.
    pub warnings: Vec<String>,
}

/// One line of `df -Pk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// The first column, usually a path below `/dev`.
    pub name: String,
    /// The last column.
    pub mount_point: String,
    /// The total, in KiB, rounded up.
    pub size_kib: u64,
    /// The used space, in KiB, rounded up.
    pub used_kib: u64,
    /// What an unprivileged user can still write, in KiB, rounded up.
    pub available_kib: u64,
    /// Used, in percent of used and available, rounded up.
    pub percent_used: u64,
}

impl Mounts {
    /// The mounts of the process `self` under `roots.proc`, or of the first process of a host; `prober` reads their sizes.
    #[must_use]
    pub fn open(roots: &Roots, prober: Prober) -> Self {
        let (full, short) = (roots.seen("mountinfo"), roots.proc.join("mounts"));
        let table = if !full.exists() && short.exists() && roots.host.is_none() { short } else { full };
        let host = roots.host.clone().map(|root| (root, RereadFile::at("/proc/self/mountinfo".into())));
        Self { table: RereadFile::at(table), host, dev: roots.dev.clone(), prober }
    }

    /// The name and the mount point of each local file system; no size is read.
    ///
    /// # Errors
    /// As [`Mounts::list`].
    pub fn points(&mut self) -> Result<Vec<(String, String)>, Fault> {
        let text = self.table.read()?;
        let mounts = table::local(&table::parse(&text), |_| true, |path| number_of(&self.dev, path));
        Ok(mounts.iter().map(|mount| (name(&mount.source), mount.point.to_string())).collect())
    }

    /// Lists the file systems whose source is `wanted` (as the kernel names it); the others are not probed.
    ///
    /// # Errors
    /// The kernel's table cannot be read.
    pub fn list(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Listing, Fault> {
        let text = self.table.read()?;
        let mut mounts = table::local(&table::parse(&text), wanted, |path| number_of(&self.dev, path));
        let mut points: Vec<PathBuf> = mounts.iter().map(|mount| PathBuf::from(&*mount.point)).collect();
        if let Some((root, own)) = &mut self.host {
            let own = own.read()?;
            let own = table::parse(&own).into_iter().map(|mount| mount.point.into_owned()).collect::<HashSet<_>>();
            let seen = |point: &str| below(root, point).filter(|path| own.contains(&*path.to_string_lossy()));
            // If it is not mounted here as well, the path is a folder of another file system.
            mounts.retain(|mount| seen(&mount.point).is_some());
            points = mounts.iter().filter_map(|mount| seen(&mount.point)).collect();
        }
        let points: Vec<&Path> = points.iter().map(PathBuf::as_path).collect();
        let mut listing = Listing::default();
        for (mount, answer) in mounts.iter().zip(self.prober.probe(&points)) {
            let point = &mount.point;
            match answer {
                Answer::Space(space) => listing.filesystems.extend(row(&mount.source, point, space)),
                Answer::Hung => listing.warnings.push(format!("the file system at `{point}` does not respond")),
                Answer::Failed(error) if is_out_of_sight(&error) => {}
                Answer::Failed(error) => listing.warnings.push(format!("cannot get the size of `{point}`: {error}")),
            }
        }
        Ok(listing)
    }
}

/// The number of the block device at `path`, with `/dev` at `dev`.
fn number_of(dev: &Path, path: &str) -> Option<table::Number> {
    let about = std::fs::metadata(dev.join(path.strip_prefix("/dev/")?)).ok()?;
    let number = about.rdev();
    about.file_type().is_block_device().then(|| (rustix::fs::major(number), rustix::fs::minor(number)))
}

/// The path here of a host's mount `point`, with the host's `/` at `root`.
fn below(root: &Path, point: &str) -> Option<PathBuf> {
    let rest = point.strip_prefix('/')?;
    Some(if rest.is_empty() { root.to_owned() } else { root.join(rest) })
}

/// `df` skips these silently: a mount point that the agent may not enter is not a fault.
fn is_out_of_sight(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// `None` for what `df` does not print, or prints with a negative number or a dash, which the official agent drops.
fn row(source: &str, point: &str, space: Space) -> Option<Filesystem> {
    let name = name(source);
    if name.starts_with("/dev/mapper/docker-") || (name.starts_with("/dev/dm-") && point.contains("devicemapper/mnt")) {
        return None; // one per container of Docker's old storage driver
    }
    let kib = |blocks: u64| u64::try_from((u128::from(blocks) * u128::from(space.block_bytes)).div_ceil(1024)).ok();
    let used = space.blocks.checked_sub(space.free)?;
    let usable = used.checked_add(i64::try_from(space.available).ok()?.cast_unsigned())?;
    let percent = (u128::from(used) * 100).checked_div(u128::from(usable))?;
    let whole = percent * u128::from(usable) == u128::from(used) * 100;
    Some(Filesystem {
        name,
        mount_point: point.to_owned(),
        size_kib: kib(space.blocks).filter(|_| space.blocks > 0)?,
        used_kib: kib(used)?,
        available_kib: kib(space.available)?,
        percent_used: u64::try_from(percent).ok()? + u64::from(!whole),
    })
}

/// `df` resolves a source that ends in a UUID, such as `/dev/mapper/luks-…`, to the shorter `/dev/dm-0`; so metrics of encrypted
/// disks are named after that. Only of what is below `/dev`: elsewhere a user can place a link, or a file system that hangs.
fn name(source: &str) -> String {
    let uuid = |tail: &str| tail.len() == 36 && tail.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if source.starts_with("/dev/")
        && source.len() > 36
        && source.get(source.len() - 36..).is_some_and(uuid)
        && let Ok(target) = std::fs::canonicalize(source)
    {
        return target.to_string_lossy().into_owned();
    }
    source.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roots::frozen;

    const SPACE: Space = Space { block_bytes: 4096, blocks: 1000, free: 400, available: 350 };

    #[test]
    fn a_row_counts_as_df_does() {
        let row = row("/dev/sda1", "/", SPACE).unwrap();
        assert_eq!((row.size_kib, row.used_kib, row.available_kib), (4000, 2400, 1400));
        assert_eq!(row.percent_used, 64); // 2400 of 3800 is 63.2 %
    }

    #[test]
    fn half_kibibytes_are_rounded_up() {
        let space = Space { block_bytes: 512, blocks: 9, free: 4, available: 3 };
        let row = row("/dev/sda1", "/", space).unwrap();
        assert_eq!((row.size_kib, row.used_kib, row.available_kib, row.percent_used), (5, 3, 2, 63));
    }

    #[test]
    fn a_full_file_system_is_full() {
        let row = row("/dev/loop0", "/snap", Space { free: 0, available: 0, ..SPACE }).unwrap();
        assert_eq!(row.percent_used, 100);
    }

    #[test]
    fn an_impossible_size_gives_no_row() {
        let negative = Space { available: (-5_i64).cast_unsigned(), ..SPACE };
        let nothing = Space { blocks: 0, free: 0, available: 0, ..SPACE };
        let huge = Space { block_bytes: u64::MAX, blocks: 10_000, ..SPACE };
        for space in [negative, nothing, huge, Space { free: 1001, ..SPACE }, Space { available: u64::MAX, ..SPACE }] {
            assert_eq!(row("/dev/sda1", "/", space), None, "{space:?}");
        }
    }

    #[test]
    fn dockers_device_mapper_is_skipped() {
        assert_eq!(row("/dev/mapper/docker-8:1-42-pool", "/x", SPACE), None);
        assert_eq!(row("/dev/dm-3", "/var/lib/docker/devicemapper/mnt/1", SPACE), None);
        assert!(row("/dev/dm-3", "/srv", SPACE).is_some());
    }

    #[test]
    fn a_source_below_dev_that_ends_in_a_uuid_is_named_after_its_target() {
        for (parent, is_followed) in [("/dev/shm", true), ("/tmp", false)] {
            let folder = tempfile::tempdir_in(parent).unwrap();
            let target = folder.path().canonicalize().unwrap().join("dm-0");
            std::fs::write(&target, "").unwrap();
            let source = folder.path().join("luks-828fc648-9f30-43d8-a0b1-f7196a2edb66");
            std::os::unix::fs::symlink(&target, &source).unwrap();
            let expected = if is_followed { &target } else { &source };
            assert_eq!(name(source.to_str().unwrap()), expected.to_str().unwrap());
        }
    }

    #[test]
    fn the_number_of_a_block_device_is_read_and_nothing_else_has_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vda"), "").unwrap();
        assert_eq!(number_of(folder.path(), "/dev/vda"), None);
        assert_eq!(number_of(Path::new("/dev"), "/dev/null"), None, "a device of another kind");
        let blocks = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
        for entry in blocks {
            let name = entry.file_name().into_string().unwrap();
            let written = std::fs::read_to_string(entry.path().join("dev")).unwrap();
            let Some((major, minor)) = number_of(Path::new("/dev"), &format!("/dev/{name}")) else { continue };
            assert_eq!(written.trim(), format!("{major}:{minor}"), "{name}");
        }
    }

    #[test]
    fn a_mount_that_fails_is_warned_of_and_the_others_are_listed() {
        let prober = Prober::new(
            |point| match point.to_str() {
                Some("/srv/my data") => Err(io::Error::other("disk on fire")),
                Some("/boot/efi") => Err(io::ErrorKind::PermissionDenied.into()),
                _ => Ok(SPACE),
            },
            prober::DEADLINE,
        );
        let listing = Mounts::open(&frozen::roots(), prober).list(|source| source.starts_with("/dev/")).unwrap();
        assert_eq!(listing.warnings, ["cannot get the size of `/srv/my data`: disk on fire"]);
        let points: Vec<_> = listing.filesystems.iter().map(|row| &*row.mount_point).collect();
        assert_eq!(points, ["/", "/var/lib/pgsql", "/srv/raid", "/snap/core/16928"]);
    }

    #[test]
    fn only_the_mounts_of_a_host_that_are_mounted_here_are_probed_and_listed_by_the_hosts_names() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("proc/1")).unwrap();
        // The temporary folder is not a mount, but `/` is: with that as its root, the host is this machine.
        let table = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 8:2 / /nowhere rw - ext4 /dev/sda2 rw\n";
        std::fs::write(host.path().join("proc/1/mountinfo"), table).unwrap();
        let roots = Roots { host: Some("/".into()), ..Roots::of_host(host.path()) };
        let probed = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&probed);
        let prober = Prober::new(
            move |point| {
                seen.lock().unwrap().push(point.to_owned());
                Ok(SPACE)
            },
            prober::DEADLINE,
        );
        let listing = Mounts::open(&roots, prober).list(|_| true).unwrap();
        assert_eq!(listing.filesystems.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["/dev/sda1"]);
        assert_eq!(*probed.lock().unwrap(), [PathBuf::from("/")]);
        assert_eq!(below(Path::new("/host"), "/srv/a"), Some("/host/srv/a".into()));
        assert_eq!(below(Path::new("/host"), "/"), Some("/host".into()));
    }

    #[test]
    fn without_mountinfo_the_short_table_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mounts"), "/dev/sda1 / ext4 rw 0 0\n/dev/sda1 /b ext4 rw 0 0\n").unwrap();
        let roots = Roots { proc: folder.path().into(), ..Roots::default() };
        let listing = Mounts::open(&roots, Prober::new(|_| Ok(SPACE), prober::DEADLINE)).list(|_| true).unwrap();
        assert_eq!(listing.filesystems.iter().map(|row| &*row.mount_point).collect::<Vec<_>>(), ["/"]);
    }

    /// Against the machine that runs the test. Others may mount and write in it meanwhile, so the two are compared until they agree
    /// once; a fault of ours never agrees.
    #[test]
    fn the_rows_are_those_of_df() {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Err(difference) = compared_with_df() {
            assert!(std::time::Instant::now() < end, "{difference}");
        }
    }

    fn compared_with_df() -> Result<(), String> {
        let Listing { filesystems: mut ours, warnings } =
            Mounts::open(&Roots::default(), Prober::of_this_process()).list(|_| true).unwrap();
        // df would wait for it; it may be one of another test, which ends.
        if warnings.iter().any(|warning| warning.contains("does not respond")) {
            return Err(format!("df would not end: {warnings:?}"));
        }
        let mut df = std::process::Command::new("timeout");
        let output = df.args(["10", "df", "-Pkl"]).env("LC_ALL", "C").output().expect("df, of coreutils");
        if output.status.code() == Some(124) {
            return Err("df did not end within 10 s".to_owned());
        }
        let output = String::from_utf8(output.stdout).unwrap();
        let mut theirs: Vec<Vec<&str>> = output.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        ours.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
        theirs.sort_by_key(|row| row[5..].join(" "));
        let our_names = ours.iter().map(|row| (row.name.clone(), row.mount_point.clone())).collect::<Vec<_>>();
        let their_names = theirs.iter().map(|row| (row[0].to_owned(), row[5..].join(" "))).collect::<Vec<_>>();
        assert!(their_names.iter().any(|(_, point)| point == "/"), "df lists nothing: {output}");
        if our_names != their_names {
            return Err(format!("{our_names:#?} here, {their_names:#?} in df"));
        }
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for (number, theirs) in [ours.size_kib, ours.used_kib, ours.available_kib].into_iter().zip(&theirs[1..]) {
                let theirs: u64 = theirs.parse().unwrap();
                if number.abs_diff(theirs) > theirs / 100 + 8192 {
                    return Err(format!("{}: {number} KiB here, {theirs} in df", ours.mount_point));
                }
            }
        }
        Ok(())
    }
}
