//! What may be done with files, and the TCP ports that may be connected to (Landlock).

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::paths::patient;

/// The newest set of rights that was tried. What a kernel does not know of it is not restricted there.
const KNOWN: ABI = ABI::V7;

/// What this process may read, and write to, as the kernel knows it: what takes the place of a file or folder later is another.
static KEPT: OnceLock<Kept> = OnceLock::new();

#[derive(Default)]
struct Kept {
    reads: BTreeSet<Identity>,
    writes: BTreeSet<Identity>,
}

/// A file's or folder's device and number. The kernel holds those that a rule is about, so that no other gets the same.
type Identity = (u64, u64);

/// Whether this process has given up reading what is at `path` now, or will be made there. Links are followed. What does not answer is
/// not called closed.
#[must_use]
pub fn is_closed(path: &Path) -> bool {
    KEPT.get().is_some_and(|kept| is_below_none(path, &kept.reads))
}

/// The same of writing.
#[must_use]
pub fn is_closed_for_writing(path: &Path) -> bool {
    KEPT.get().is_some_and(|kept| is_below_none(path, &kept.writes))
}

fn is_below_none(path: &Path, kept: &BTreeSet<Identity>) -> bool {
    let found = patient::ask(path, patient::LOOK, |path| {
        let real = path.ancestors().find_map(|above| above.canonicalize().ok())?;
        Some(
            real.ancestors()
                .filter_map(|above| above.symlink_metadata().ok())
                .map(|about| (about.dev(), about.ino()))
                .collect(),
        )
    });
    found.ok().flatten().is_some_and(|found: Vec<Identity>| !found.iter().any(|identity| kept.contains(identity)))
}

/// What remains allowed. A folder stands for everything below it, also for what is mounted or made there later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Files and folders that may be read.
    pub reads: BTreeSet<PathBuf>,
    /// Folders in which everything may be done but executing, and files that may be written.
    pub writes: BTreeSet<PathBuf>,
    /// Folders in which files may be removed.
    pub removes: BTreeSet<PathBuf>,
    /// Programs that may be started.
    pub executes: BTreeSet<PathBuf>,
    /// TCP ports that may be connected to; `None` for any.
    pub connects: Option<BTreeSet<u16>>,
}

/// What this kernel enforces of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// The version of Landlock's interface.
    pub version: i32,
    /// Whether the ports that may be connected to are.
    pub ports: bool,
}

impl Allowed {
    /// Refuses everything else: for this thread, the threads and programs that it starts, and, from Linux 7.0 on, for all other threads.
    /// Listening on TCP ports is refused altogether. Not restricted are: looking at a path (`stat`), unix sockets, UDP. What does not exist is
    /// skipped.
    ///
    /// # Errors
    /// The kernel has no Landlock, or it is switched off.
    pub fn only(&self) -> Result<Enforced, String> {
        self.restrict()
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "the kernel has no Landlock, or it is switched off".to_owned())
    }

    fn restrict(&self) -> Result<Option<Enforced>, RulesetError> {
        let everything = AccessFs::from_all(KNOWN);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(everything)?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::Signal)?;
        if self.connects.is_some() {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
        }
        let mut created = ruleset.create()?.no_new_privs(true);
        let reads = AccessFs::ReadFile | AccessFs::ReadDir;
        let rules = [
            (&self.reads, reads),
            (&self.writes, everything & !AccessFs::Execute),
            (&self.removes, AccessFs::RemoveFile.into()),
            (&self.executes, AccessFs::Execute | AccessFs::ReadFile),
        ];
        let mut kept = Kept::default();
        for (paths, access) in rules {
            for path in paths {
                if let Some((descriptor, access)) = opened(path, access) {
                    let identity = identity(&descriptor);
                    kept.reads.extend(identity.filter(|_| access.contains(AccessFs::ReadFile)));
                    kept.writes.extend(identity.filter(|_| access.contains(AccessFs::WriteFile)));
                    created = created.add_rule(PathBeneath::new(descriptor, access))?;
                }
            }
        }
        for port in self.connects.iter().flatten() {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        let status = created.restrict_self()?;
        KEPT.set(kept).ok();
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } if status.ruleset != RulesetStatus::NotEnforced => {
                let version = kernel_abi.unwrap_or(effective_abi as i32);
                Some(Enforced { version, ports: self.connects.is_some() && version >= ABI::V4 as i32 })
            }
            _ => None,
        })
    }
}

/// The identity of an open file or folder.
fn identity(descriptor: &PathFd) -> Option<Identity> {
    let about = File::from(descriptor.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
    Some((about.dev(), about.ino()))
}

/// The path, open, and which of the rights a file can have if it is one. `None` if there is nothing, or its file system does not answer.
fn opened(path: &Path, access: BitFlags<AccessFs>) -> Option<(PathFd, BitFlags<AccessFs>)> {
    let open =
        patient::ask(path, patient::LOOK, |path| Some((path.metadata().ok()?.is_dir(), PathFd::new(path).ok()?)));
    let (is_folder, descriptor) = open.ok().flatten()?;
    Some((descriptor, if is_folder { access } else { access & AccessFs::from_file(KNOWN) }))
}
