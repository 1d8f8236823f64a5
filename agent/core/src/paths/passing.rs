//! Errors of the system that are about a disk or this process, not about a path: they pass once that is repaired, and what failed is tried
//! again until then. Errors about the path itself are a mistake in the configuration.

use std::io::{Error, ErrorKind};

use rustix::io::Errno;

/// What to do about an error that passes; `None` for one about the path itself.
#[must_use]
pub fn cure(error: &Error) -> Option<&'static str> {
    Some(match (error.kind(), Errno::from_io_error(error)) {
        (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => "free space on its disk",
        (ErrorKind::ReadOnlyFilesystem, _) => "make its file system writable, or name a path on another one",
        (ErrorKind::FileTooLarge, _) => "raise the limit of file sizes (ulimit -f, LimitFSIZE)",
        (ErrorKind::OutOfMemory, _) => "free memory on this machine",
        (ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle | ErrorKind::NotConnected, _) => {
            "check its file system"
        }
        (_, Some(Errno::IO)) => "check its disk",
        (_, Some(Errno::MFILE)) => "raise the limit of open files (ulimit -n, LimitNOFILE)",
        (_, Some(Errno::NFILE)) => "raise the machine's limit of open files (fs.file-max)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_a_file_in_the_place_of_a_folder_does_not() {
        let of = |errno: Errno| cure(&Error::from(errno));
        assert!(of(Errno::NOSPC).is_some_and(|cure| cure.contains("free space")));
        assert!(of(Errno::MFILE).is_some_and(|cure| cure.contains("LimitNOFILE")));
        assert!(cure(&Error::new(ErrorKind::TimedOut, "hangs")).is_some());
        for about_the_path in [Errno::NOTDIR, Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::EXIST, Errno::LOOP] {
            assert_eq!(of(about_the_path), None, "{about_the_path}");
        }
        assert_eq!(cure(&Error::other("it is a link")), None);
    }
}
