//! The walk: follows a path name by name, and remembers who could have changed where it leads.
//!
//! Each step opens one name in a folder that is open already, and never follows a link by itself: the text of a link is read and
//! walked in the same way, so that the kernel's own ("magic") links in /proc are never followed, and so that a folder which is
//! swapped meanwhile changes nothing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::{Opened, since_start};
use crate::container;

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// How often a file that is replaced while it is opened is looked up again.
const TRIES: usize = 4;

/// The types of file systems whose files are the kernel's (statfs(2)): proc, sysfs, debugfs, tracefs, securityfs, configfs,
/// cgroup, cgroup2, bpf, efivarfs, pstore, selinuxfs.
const KERNEL_FILE_SYSTEMS: [u32; 12] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0x0027_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0xde5e_81e4,
    0x6165_676c,
    0xf97c_ff8c,
];

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// As those before it.
    Followed,
    /// It is what was looked for.
    Kept,
}

/// Where a path leads.
pub(super) struct Found {
    /// The folder that has it.
    pub(super) folder: OwnedFd,
    /// Its name there.
    pub(super) name: OsString,
    /// What it is, if it exists.
    pub(super) entry: Option<Entry>,
    /// The walk so far.
    pub(super) way: Way,
}

/// Something that was found, by a descriptor that can neither be read nor written.
pub(super) struct Entry {
    pub(super) descriptor: OwnedFd,
    pub(super) stat: Stat,
}

impl Entry {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn is_same(&self, other: &Stat) -> bool {
        (self.stat.st_dev, self.stat.st_ino) == (other.st_dev, other.st_ino)
    }
}

/// Who could have changed where a path leads.
#[derive(Clone)]
pub(super) struct Way {
    /// Why another user could have, with the cure; `None` if none could.
    pub(super) open_to_others: Option<String>,
    /// The same, except that what the operator mounted read-only is trusted; see [`Hold::is_trusted`].
    pub(super) untrusted: Option<String>,
    /// The last folder.
    pub(super) folder: Hold,
    /// Its path, for messages.
    pub(super) shown: PathBuf,
    /// Whether a link was followed outside of the kernel's file systems.
    strayed: bool,
}

/// Who may change something: from its owner, its mode and its mount.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    uid: u32,
    /// The owner is root or the agent's user.
    pub(super) is_ours: bool,
    /// No one but the owner may write; see [`is_closed`].
    is_closed: bool,
    /// Others may add names to this folder, but not change those of the owner.
    is_sticky: bool,
    /// It is mounted read-only here: whatever its mode says, no one can write to it through this mount.
    is_read_only: bool,
}

impl Hold {
    pub(super) fn of(descriptor: impl AsFd, stat: &Stat) -> Self {
        let is_closed = is_closed(&descriptor, stat);
        let is_ours = is_own(stat.st_uid);
        let is_safe = is_closed && is_ours;
        let is_read_only = !is_safe
            && rustix::fs::fstatvfs(descriptor).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
        Self { uid: stat.st_uid, is_ours, is_closed, is_sticky: stat.st_mode & 0o1000 != 0, is_read_only }
    }

    /// Whether all that is in this folder was put there by root, the agent's user, or who mounted it: in our container image,
    /// a read-only mount has what the operator gave it, whoever owns that on the host.
    pub(super) fn is_trusted(self) -> bool {
        (self.is_ours || self.is_mounted()) && (self.is_closed || self.is_read_only)
    }

    fn is_mounted(self) -> bool {
        self.is_read_only && container::is_ours()
    }

    /// Whether no other user can replace what root and the agent's user have in this folder.
    fn keeps_ours(self) -> bool {
        self.is_ours && (self.is_closed || self.is_sticky || self.is_read_only)
    }

    /// Whether a link in this folder, of this owner, is followed.
    fn keeps_link(self, uid: u32) -> bool {
        self.is_ours && (self.is_closed || (self.is_read_only && is_own(uid)))
    }

    /// Why other users can change it, with what to type.
    pub(super) fn why(self, path: &Path) -> String {
        let why = self.why_on_a_host(path);
        if container::is_ours() && !self.is_read_only { format!("{why}; or mount it read-only") } else { why }
    }

    fn why_on_a_host(self, path: &Path) -> String {
        let (shown, typed) = (path.display(), quoted(path));
        let is_open = !self.is_closed && !self.is_read_only;
        match (self.is_ours, is_open) {
            (false, true) => format!(
                "`{shown}` belongs to another user (id {}), and others can write to it: chown {} {typed} && chmod go-w {typed}",
                self.uid,
                own_uid()
            ),
            (false, false) => {
                format!("`{shown}` belongs to another user (id {}): chown {} {typed}", self.uid, own_uid())
            }
            (true, _) if self.is_sticky => format!("other users can add files to `{shown}`: use another folder"),
            (true, _) => format!("other users can write to `{shown}`: chmod go-w {typed}"),
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether it is root, the agent's user, or the owner of the program, who could replace that too.
pub(super) fn is_own(uid: u32) -> bool {
    static OF_PROGRAM: OnceLock<Option<u32>> = OnceLock::new();
    let of_program = || std::fs::metadata("/proc/self/exe").ok().map(|about| about.uid());
    uid == 0 || uid == own_uid() || Some(uid) == *OF_PROGRAM.get_or_init(of_program)
}

/// Whether no one but the owner may write. An access control list shows as the group's permissions, so the group counts as others; but
/// many systems give each user a group of the same number, for that user alone, and let it write.
fn is_closed(descriptor: impl AsFd, stat: &Stat) -> bool {
    let has_no_list = || {
        let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
        let list = rustix::fs::getxattr_query(path, "system.posix_acl_access");
        matches!(list, Err(Errno::NODATA | Errno::OPNOTSUPP))
    };
    match stat.st_mode & 0o022 {
        0 => true,
        0o020 => is_in_own_group(own_uid(), (stat.st_uid, stat.st_gid)) && has_no_list(),
        _ => false,
    }
}

/// Whether a file is `user`'s, and of the group of that user alone. Root's group has other members on some systems.
pub(super) fn is_in_own_group(user: u32, owners: (u32, u32)) -> bool {
    user != 0 && owners == (user, user)
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+:@%,".contains(char);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A refusal, which is not one of the system's.
pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::PermissionDenied, why.into())
}

struct Walk {
    folder: OwnedFd,
    way: Way,
    rest: VecDeque<OsString>,
    links: usize,
}

/// Walks to `path`. What does not exist has no entry; a missing folder on the way is an error.
pub(super) fn walk(path: &Path, last: Last) -> Result<Found> {
    // With the folder in which the process is, since that has folders above it too.
    let path = std::path::absolute(path)?;
    let (folder, hold) = top()?;
    let way = Way { open_to_others: None, untrusted: None, folder: hold, shown: "/".into(), strayed: false };
    let mut walk = Walk { folder, way, rest: VecDeque::new(), links: 0 };
    walk.judge();
    walk.push(&path);
    loop {
        let Some(name) = walk.rest.pop_front() else {
            // The path ends in `/` or `..`: it is the folder itself.
            let descriptor = walk.folder.try_clone()?;
            let stat = rustix::fs::fstat(&descriptor)?;
            let entry = Some(Entry { descriptor, stat });
            return Ok(Found { folder: walk.folder, name: ".".into(), entry, way: walk.way });
        };
        if let Some(found) = walk.step(name, last)? {
            return Ok(found);
        }
    }
}

fn top() -> Result<(OwnedFd, Hold)> {
    let folder = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let hold = Hold::of(&folder, &rustix::fs::fstat(&folder)?);
    Ok((folder, hold))
}

impl Walk {
    fn push(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.rest.push_front(name.to_owned()),
                Component::ParentDir => self.rest.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn judge(&mut self) {
        let Way { open_to_others, untrusted, folder, shown, .. } = &mut self.way;
        if !folder.keeps_ours() {
            open_to_others.get_or_insert_with(|| folder.why(shown));
            if !folder.is_mounted() {
                untrusted.get_or_insert_with(|| folder.why(shown));
            }
        }
    }

    /// One name; the end, if it was the last.
    fn step(&mut self, name: OsString, last: Last) -> Result<Option<Found>> {
        let is_last = self.rest.is_empty();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = match rustix::fs::openat(&self.folder, &name, flags, Mode::empty()) {
            Ok(descriptor) => {
                let stat = rustix::fs::fstat(&descriptor)?;
                Entry { descriptor, stat }
            }
            Err(Errno::NOENT) if is_last => return self.end(name, None).map(Some),
            Err(error) => return Err(error.into()),
        };
        match entry.kind() {
            FileType::Symlink if !is_last || last == Last::Followed => {
                self.follow(&name, &entry)?;
                Ok(None)
            }
            FileType::Directory if !is_last || name == ".." => {
                if name == ".." {
                    self.way.shown.pop();
                } else {
                    self.way.shown.push(&name);
                }
                self.way.folder = Hold::of(&entry.descriptor, &entry.stat);
                self.folder = entry.descriptor;
                self.judge();
                Ok(None)
            }
            _ if is_last => self.end(name, Some(entry)).map(Some),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn follow(&mut self, name: &OsStr, link: &Entry) -> Result<()> {
        let shown = self.way.shown.join(name);
        if let Some(why) = &self.way.open_to_others {
            return Err(refused(format!("`{}` is a symbolic link that is not followed: {why}", shown.display())));
        }
        if !self.way.folder.keeps_link(link.stat.st_uid) {
            let why = self.way.folder.why(&self.way.shown);
            return Err(refused(format!("`{}` is a symbolic link that is not followed: {why}", shown.display())));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&link.descriptor, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if is_kernels(&self.folder)? {
            // In /proc, such a link leads to what a process has open, wherever its text points.
            if target.is_absolute() || target.as_os_str().as_bytes().contains(&b'[') {
                return Err(refused(format!("`{}` is a link to what a process has open", shown.display())));
            }
        } else {
            self.way.strayed = true;
        }
        if target.is_absolute() {
            (self.folder, self.way.folder) = top()?;
            self.way.shown = "/".into();
        }
        self.push(&target);
        Ok(())
    }

    fn end(&mut self, name: OsString, entry: Option<Entry>) -> Result<Found> {
        let folder = self.folder.try_clone()?;
        let found = Found { folder, name, entry, way: self.way.clone() };
        found.check()?;
        Ok(found)
    }
}

pub(super) fn is_kernels(descriptor: impl AsFd) -> Result<bool> {
    // The type of the field differs between machines; the numbers have 32 bits.
    let kind = rustix::fs::fstatfs(descriptor)?.f_type as u32;
    Ok(KERNEL_FILE_SYSTEMS.contains(&kind))
}

impl Found {
    /// Refuses what another user can have put into this place although it is not theirs.
    fn check(&self) -> Result<()> {
        let Some(entry) = &self.entry else { return Ok(()) };
        if self.way.strayed && is_kernels(&entry.descriptor)? {
            let path = self.path();
            return Err(refused(format!(
                "a link leads to the kernel's file `{}`; name that file itself",
                path.display()
            )));
        }
        let Way { open_to_others, folder, .. } = &self.way;
        let is_open = open_to_others.is_some() || !(folder.is_ours && folder.is_closed);
        if is_open && entry.kind() != FileType::Directory && entry.stat.st_nlink > 1 {
            return Err(refused(format!(
                "`{}` has {} names (hard links), one of which another user can have made here: {}",
                self.path().display(),
                entry.stat.st_nlink,
                self.way.open_to_others.clone().unwrap_or_else(|| self.way.folder.why(&self.way.shown))
            )));
        }
        Ok(())
    }

    /// Its path without links.
    pub(super) fn path(&self) -> PathBuf {
        if self.name == "." { self.way.shown.clone() } else { self.way.shown.join(&self.name) }
    }

    /// What is there.
    pub(super) fn entry(&self) -> Result<&Entry> {
        self.entry.as_ref().ok_or_else(|| Errno::NOENT.into())
    }

    /// Opens what was found, which must be of this `kind`: neither a pipe, whose other end may never come, nor a device. `None` if
    /// it was replaced since.
    pub(super) fn open(&self, kind: FileType, flags: OFlags) -> Result<Option<OwnedFd>> {
        let entry = self.entry()?;
        if entry.kind() != kind {
            return Err(Error::other(match kind {
                FileType::Directory => "not a folder",
                _ => "not a regular file",
            }));
        }
        let path = self.path();
        since_start::note(if kind == FileType::Directory { &path } else { &self.way.shown });
        let (open, stat) =
            open_in(&self.folder, &self.name, flags).map_err(|error| since_start::unopened(error, &path))?;
        Ok(entry.is_same(&stat).then_some(open))
    }
}

/// Opens `name` in `folder`, whatever it is, without waiting and without following it.
pub(super) fn open_in(folder: impl AsFd, name: &OsStr, flags: OFlags) -> rustix::io::Result<(OwnedFd, Stat)> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&open)?;
    Ok((open, stat))
}

/// Opens the regular file at `path` for reading, if `check` accepts it.
pub(super) fn open_file<E: From<Error>>(
    path: &Path,
    last: Last,
    check: impl Fn(&Found) -> std::result::Result<(), E>,
) -> std::result::Result<Opened, E> {
    for _ in 0..TRIES {
        let found = walk(path, last)?;
        found.entry()?;
        check(&found)?;
        if let Some(open) = found.open(FileType::RegularFile, OFlags::RDONLY)? {
            let file = File::from(open);
            let about = file.metadata().map_err(E::from)?;
            return Ok(Opened { file, about });
        }
    }
    Err(Error::other("it keeps being replaced").into())
}

/// Opens the regular file at `path` wherever its links lead.
pub(super) fn open_anywhere(path: &Path) -> Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(open.map_err(|error| since_start::unopened(error, path))?);
    let about = file.metadata()?;
    if about.is_file() { Ok(Opened { file, about }) } else { Err(Error::other("not a regular file")) }
}

/// The names in the folder at `path`, wherever its links lead.
pub(super) fn list_anywhere(path: &Path) -> Result<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    names(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| since_start::unopened(error, path))?)
}

/// The names in a folder that is open for reading.
pub(super) fn names(folder: impl AsFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Looks at `name` in `folder` without opening it.
pub(super) fn stat_in(folder: impl AsFd, name: &OsStr) -> Result<Stat> {
    Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}
