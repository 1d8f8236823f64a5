//! Regular files: reads a path that comes from outside, but never a pipe or a device, which may never end, and never more than
//! a limit.

use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens `file` for reading.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub fn open(file: &Path) -> Result<File> {
    // Without NONBLOCK, opening a pipe waits for its other end.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(Error::other("not a regular file"));
    }
    Ok(open)
}

/// The bytes of `file`.
///
/// # Errors
/// It cannot be read, is not a regular file, or is larger than `most_bytes`.
pub fn read(file: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let open = open(file)?;
    let mut bytes = Vec::new();
    open.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(Error::other(format!("larger than {} KiB", most_bytes >> 10)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_device_a_folder_and_a_large_file_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let [pipe, file] = ["pipe", "file"].map(|name| temp.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), temp.path()] {
            assert!(read(path, 10).unwrap_err().to_string().contains("not a regular file"), "{}", path.display());
        }
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).unwrap_err().to_string().contains("larger than"));
    }
}
