//! The kernel's table of mounts, `/proc/self/mountinfo`, and which of its lines `df -l` would show.
//!
//! Only the kernel's table is read; no file system is touched, so nothing here can hang.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::roots::whole_lines;

/// One mount, its octal escapes decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount<'table> {
    /// `/dev/sda1`, `tmpfs`, `server:/export`.
    pub(super) source: Cow<'table, str>,
    /// The path where it is mounted.
    pub(super) point: Cow<'table, str>,
    /// The folder of the file system that is visible there; not `/` for a bind mount or a subvolume.
    root: Cow<'table, str>,
    kind: &'table str,
    /// Equal for mounts of the same device.
    device: Cow<'table, str>,
    /// This mount's id and its parent's. The short table has none.
    ids: Option<(&'table str, &'table str)>,
}

/// The major and minor number of a device.
pub(super) type Number = (u32, u32);

/// All mounts in `/proc/self/mountinfo`, or in the older `/proc/mounts`. Lines of neither form are skipped.
pub(super) fn parse(text: &str) -> Vec<Mount<'_>> {
    whole_lines(text).filter_map(|line| long_line(line).or_else(|| short_line(line))).collect()
}

/// The mounts that `df -l` would show: local, with a `wanted` source, not covered by another mount, one for each device. Unlike in
/// `df`, none has the name of a device that it is not on; `number_of` is that of the device at a path, if it is known.
pub(super) fn local<'table>(
    mounts: &[Mount<'table>],
    wanted: impl Fn(&str) -> bool,
    number_of: impl Fn(&str) -> Option<Number>,
) -> Vec<Mount<'table>> {
    let cover = Cover::over(mounts);
    let mut chosen: Vec<Mount<'table>> = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, mount) in mounts.iter().enumerate() {
        if !wanted(&mount.source) || !mount.point.starts_with('/') || is_dummy(mount) || is_remote(mount) {
            continue;
        }
        if !is_on_its_source(mount, &number_of) || cover.hides(at, mount) {
            continue;
        }
        match seen.get(&*mount.device).and_then(|at| chosen.get_mut(*at)) {
            Some(rival) if wins(mount, rival) => *rival = mount.clone(),
            Some(_) => {}
            None => {
                seen.insert(&mount.device, chosen.len());
                chosen.push(mount.clone());
            }
        }
    }
    chosen
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: see proc_pid_mountinfo(5).
fn long_line(line: &str) -> Option<Mount<'_>> {
    let (here, there) = line.split_once(" - ")?;
    let mut here = here.split(' ');
    let ids = (here.next()?, here.next()?);
    let device = here.next().filter(|device| device.contains(':'))?;
    let (root, point) = (here.next()?, here.next()?);
    here.next()?; // the options, which are never missing
    let mut there = there.split(' ');
    let (kind, source) = (there.next()?, there.next()?);
    there.next()?;
    Some(Mount {
        source: unescaped(source),
        point: unescaped(point),
        root: unescaped(root),
        kind,
        device: device.into(),
        ids: Some(ids),
    })
}

/// `/dev/sda1 /mnt ext4 rw 0 0`. It has no device number: a source that is a path stands in for it.
fn short_line(line: &str) -> Option<Mount<'_>> {
    let fields: Vec<&str> = line.split(' ').collect();
    let &[source, point, kind, _, _, _] = fields.as_slice() else { return None };
    let (source, point) = (unescaped(source), unescaped(point));
    let device = if source.starts_with('/') { source.clone() } else { point.clone() };
    Some(Mount { source, point, root: "/".into(), kind, device, ids: None })
}

/// The kernel writes space, tab, line break, backslash and `#` as `\` and three octal digits.
fn unescaped(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return field.into();
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                ((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), after)
            }
            _ => (first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// Kinds that `df` does not show, as they hold no data (gnulib's `ME_DUMMY`).
fn is_dummy(mount: &Mount<'_>) -> bool {
    const DUMMY: [&str; 12] = [
        "autofs",
        "proc",
        "subfs",
        "debugfs",
        "devpts",
        "fusectl",
        "fuse.portal",
        "mqueue",
        "rpc_pipefs",
        "sysfs",
        "devfs",
        "none",
    ];
    DUMMY.contains(&mount.kind)
}

/// File systems behind a network: they may hang, and do not belong to this machine. gnulib's `ME_REMOTE`, which `df -l` uses, and
/// those that it lacks.
fn is_remote(mount: &Mount<'_>) -> bool {
    const REMOTE: [&str; 21] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ceph",
        "fuse.sshfs",
        "fuse.glusterfs",
        "9p",
        "ncpfs",
        "lustre",
        "beegfs",
        "acfs",
        "afs",
        "coda",
        "auristorfs",
        "fhgfs",
        "gpfs",
        "ibrix",
        "ocfs2",
        "vxfs",
    ];
    mount.source.contains(':') || mount.source == "-hosts" || REMOTE.contains(&mount.kind)
}

/// Whether the file system is on the device that it gives as its source, if it gives one. The source is the word of whoever mounted
/// it: of a file system in user space (FUSE) that can be any user, and any word. The number of its device is the kernel's.
fn is_on_its_source(mount: &Mount<'_>, number_of: impl Fn(&str) -> Option<Number>) -> bool {
    /// Kinds of the kernel that are on a device and have a number of their own: of several devices, or of none with blocks.
    const NUMBERED: [&str; 7] = ["apfs", "bcachefs", "btrfs", "simfs", "ubifs", "vzfs", "zfs"];
    if !mount.source.starts_with("/dev/") {
        return true;
    }
    match number(&mount.device) {
        // The short table has no numbers.
        None => mount.kind != "fuse" && !mount.kind.starts_with("fuse."),
        Some((0, _)) => NUMBERED.contains(&mount.kind),
        // A source that is not there, like /dev/root, cannot be compared; only root mounts what is on a device with blocks.
        Some(number) => number_of(&mount.source).is_none_or(|known| known == number),
    }
}

/// `8:1`
fn number(device: &str) -> Option<Number> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether `df` would show `mount` instead of `rival`, an earlier mount of the same device (its `filter_mount_list`).
fn wins(mount: &Mount<'_>, rival: &Mount<'_>) -> bool {
    let named = mount.source.contains('/') && !rival.source.contains('/');
    let nearer_to_root = mount.point.len() < rival.point.len() && mount.root.len() <= rival.root.len();
    let mounted_over = mount.source != rival.source && mount.point == rival.point;
    named || nearer_to_root || mounted_over
}

/// The topmost mount at each path. The size at a covered mount's path would be that of the mount above it.
struct Cover<'mounts> {
    mounts: &'mounts [Mount<'mounts>],
    topmost: HashMap<&'mounts str, usize>,
    by_id: HashMap<&'mounts str, usize>,
}

impl<'mounts> Cover<'mounts> {
    fn over(mounts: &'mounts [Mount<'mounts>]) -> Self {
        let topmost = mounts.iter().enumerate().map(|(at, mount)| (&*mount.point, at)).collect();
        let by_id = mounts.iter().enumerate().filter_map(|(at, mount)| Some((mount.ids?.0, at))).collect();
        Self { mounts, topmost, by_id }
    }

    /// The path to a visible mount leads only through mounts that it stands on, and then itself.
    fn hides(&self, at: usize, mount: &Mount<'_>) -> bool {
        prefixes(&mount.point).filter_map(|path| self.topmost.get(path)).any(|&met| match mount.ids {
            Some(_) => !self.stands_on(at, met),
            None => met > at, // the short table has only an order
        })
    }

    fn stands_on(&self, at: usize, below: usize) -> bool {
        let parent = |&at: &usize| self.by_id.get(self.mounts.get(at)?.ids?.1).copied();
        // The table is a tree. The bound is for a damaged one with a cycle.
        std::iter::successors(Some(at), parent).take(self.mounts.len()).any(|met| met == below)
    }
}

/// `/a/b`, `/a`, `/`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rfind('/')? {
        0 if path.len() > 1 => Some("/"),
        0 => None,
        slash => path.get(..slash),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, String)> {
        let pair = |mount: Mount<'_>| (mount.source.into_owned(), mount.point.into_owned());
        local(&parse(text), |_| true, |_| None).into_iter().map(pair).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(source, point)| ((*source).to_owned(), (*point).to_owned())).collect()
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(unescaped(r"/srv/my\040data"), "/srv/my data");
        assert_eq!(unescaped(r"/a\134b\011\043\303\244"), "/a\\b\t#ä");
        assert_eq!(unescaped(r"/a\04"), r"/a\04");
    }

    #[test]
    fn of_bind_mounts_the_one_nearest_to_the_root_is_shown() {
        let text = "1 1 8:1 /srv/www /var/www rw - ext4 /dev/sda1 rw\n\
                    2 1 8:1 / /mnt rw shared:1 - ext4 /dev/sda1 rw\n\
                    3 2 8:1 /x /a rw - ext4 /dev/sda1 rw\n";
        assert_eq!(shown(text), pairs(&[("/dev/sda1", "/mnt")]));
    }

    #[test]
    fn a_mount_that_another_covers_is_not_listed() {
        let same = "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    2 1 8:2 / /data rw - ext4 /dev/sdb1 rw\n\
                    3 2 8:3 / /data rw - ext4 /dev/sdc1 rw\n";
        assert_eq!(shown(same), pairs(&[("/dev/sda1", "/"), ("/dev/sdc1", "/data")]));
        let above = "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     2 1 8:2 / /data/deep rw - ext4 /dev/sdb1 rw\n\
                     3 1 8:3 / /data rw - ext4 /dev/sdc1 rw\n";
        assert_eq!(shown(above), pairs(&[("/dev/sda1", "/"), ("/dev/sdc1", "/data")]));
    }

    #[test]
    fn the_root_that_covers_the_initial_one_is_shown() {
        let text = "1 1 0:1 / / rw - rootfs rootfs rw\n2 1 8:1 / / rw - ext4 /dev/sda1 rw\n3 2 8:2 / /b rw - xfs /dev/sdb rw\n";
        assert_eq!(shown(text), pairs(&[("/dev/sda1", "/"), ("/dev/sdb", "/b")]));
    }

    #[test]
    fn a_mount_on_an_automount_point_is_shown() {
        let text = "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / /b rw - autofs systemd-1 rw\n3 2 8:2 / /b rw - xfs /dev/sdb rw\n";
        assert_eq!(shown(text), pairs(&[("/dev/sda1", "/"), ("/dev/sdb", "/b")]));
    }

    #[test]
    fn remote_file_systems_are_not_listed() {
        for (kind, source) in [
            ("nfs4", "10.0.0.1:/export"),
            ("cifs", "//server/share"),
            ("ceph", "/dev/ceph"),
            ("fuse.sshfs", "me@there"),
            ("9p", "/dev/root"),
            ("ext4", "/dev/disk/by-path/pci-0000:00"),
        ] {
            assert_eq!(shown(&format!("1 1 0:5 / /mnt rw - {kind} {source} rw\n")), [], "{kind}");
        }
    }

    #[test]
    fn a_mount_that_claims_a_device_that_it_is_not_on_does_not_take_its_name() {
        let root = "1 1 254:0 / / rw - ext4 /dev/vda rw\n";
        for claim in [
            "2 1 0:60 / /home/eve/a rw - fuse.claims /dev/vda rw,user_id=1001",
            "2 1 0:60 / /b rw - fuse /dev/vda rw,user_id=1001",
            "2 1 0:60 / /b rw - fuse.btrfs /dev/vda rw,user_id=1001",
            "2 1 0:60 / /b rw - fuse.claims /dev/../dev/vda rw,user_id=1001",
            "2 1 0:60 / /b rw - fuse.claims /dev/shm/x-828fc648-9f30-43d8-a0b1-f7196a2edb66 rw,user_id=1001",
            "2 1 0:60 / /b rw - tmpfs /dev/vda rw",
        ] {
            assert_eq!(shown(&format!("{root}{claim}\n")), pairs(&[("/dev/vda", "/")]), "{claim}");
        }
        let short = "/dev/vda /long/path ext4 rw 0 0\n/dev/vda /b fuse.claims rw,user_id=1001 0 0\n";
        assert_eq!(shown(short), pairs(&[("/dev/vda", "/long/path")]), "in the table without numbers");
    }

    #[test]
    fn the_number_of_the_device_decides_whose_name_a_mount_has() {
        let text = "1 1 254:0 / / rw - ext4 /dev/vda rw\n2 1 254:16 / /b rw - ext4 /dev/vda rw\n";
        let number_of = |path: &str| (path == "/dev/vda").then_some((254, 0));
        let points = local(&parse(text), |_| true, number_of).into_iter().map(|mount| mount.point.into_owned());
        assert_eq!(points.collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn what_is_on_a_device_under_a_number_of_its_own_or_on_none_keeps_its_name() {
        for (number, kind, source) in [
            ("0:45", "btrfs", "/dev/nvme0n1p1"),
            ("0:46", "simfs", "/dev/simfs"),
            ("8:17", "fuseblk", "/dev/sdb1"),
            ("179:2", "ext4", "/dev/root"),
            ("31:3", "jffs2", "/dev/mtdblock3"),
            ("0:47", "overlay", "overlay"),
            ("0:48", "fuse.lxcfs", "lxcfs"),
            ("0:49", "zfs", "pool/data"),
        ] {
            let text = format!("1 1 {number} / /b rw - {kind} {source} rw\n");
            assert_eq!(shown(&text), pairs(&[(source, "/b")]), "{kind}");
        }
    }

    #[test]
    fn a_table_with_a_cycle_ends() {
        let text = "1 2 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /b rw - xfs /dev/sdb rw\n";
        assert_eq!(shown(text).len(), 2);
    }
}
