//! The owner of the agent's root: the user that the agent runs as. A command about the agent that root calls becomes that user, so that it finds what
//! the agent finds, and makes no file that the agent could not replace.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};
use wasaba_core::paths::patient;

/// The user and group of the root, if this is root and that is another user's.
fn other_owner(root: &Path) -> Option<(Uid, Gid)> {
    if !Uid::effective().is_root() {
        return None;
    }
    let about = patient::ask(root, patient::LOOK, Path::metadata).ok()?.ok()?;
    (about.uid() != 0).then(|| (Uid::from_raw(about.uid()), Gid::from_raw(about.gid())))
}

/// Whether this is root, and the agent another user.
#[must_use]
pub fn is_other(root: &Path) -> bool {
    other_owner(root).is_some()
}

/// Becomes the owner of `root`, with its groups, for good, if this is root. To be called before any thread is started. Returns whether it did.
///
/// # Errors
/// The system refuses it.
pub fn become_owner(root: &Path) -> Result<bool, String> {
    let Some((user, folders_group)) = other_owner(root) else { return Ok(false) };
    let cannot = |error| {
        format!("cannot become the owner of `{}` (user {user}), whom the agent runs as: {error}", root.display())
    };
    // A user that is not in /etc/passwd has the folder's group alone.
    let known = User::from_uid(user).ok().flatten();
    let group = known.as_ref().map_or(folders_group, |known| known.gid);
    match known.and_then(|known| CString::new(known.name).ok()) {
        Some(name) => initgroups(&name, group).map_err(cannot)?,
        None => setgroups(&[group]).map_err(cannot)?,
    }
    setgid(group).map_err(cannot)?;
    setuid(user).map_err(cannot)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The folder that the child of the test below gets.
    const FOLDER: &str = "WASABA_TEST_FOLDER";

    #[test]
    #[ignore = "changes the user of the process that it runs in"]
    fn changed() {
        let folder = std::env::var_os(FOLDER).unwrap();
        assert!(is_other(folder.as_ref()));
        assert!(become_owner(folder.as_ref()).unwrap());
        assert!(!is_other(folder.as_ref()));
        let ids = nix::unistd::getresuid().unwrap();
        assert_eq!([ids.real, ids.effective, ids.saved], [Uid::from_raw(12_345); 3]);
        assert_eq!(
            (Gid::effective(), nix::unistd::getgroups().unwrap()),
            (Gid::from_raw(23_456), vec![Gid::from_raw(23_456)])
        );
        assert!(setuid(Uid::from_raw(0)).is_err(), "root could be taken back");
    }

    #[test]
    fn root_becomes_the_owner_of_the_agents_root_for_good_and_stays_root_where_that_is_its_own() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!is_other(temp.path()) && !is_other(&temp.path().join("missing")));
        assert!(!become_owner(temp.path()).unwrap());
        if !Uid::effective().is_root() {
            return;
        }
        std::os::unix::fs::chown(temp.path(), Some(12_345), Some(23_456)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["process::owner::tests::changed", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, temp.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
    }
}
