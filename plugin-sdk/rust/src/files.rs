//! Reading the files that the operator granted by settings of kind `file`.

use crate::Error;
use crate::agent::files as wire;

/// An open file. It stays the same one when its log is rotated.
#[derive(Debug)]
pub struct File(wire::File);

/// What is known of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// In bytes.
    pub size: u64,
    /// In milliseconds since 1970.
    pub modified_ms: u64,
    /// Which file it is: one that took its place has another id.
    pub id: u64,
}

impl File {
    /// Opens the file, whose path is exactly as in the setting.
    ///
    /// # Errors
    /// No grant for it, or it cannot be read.
    pub fn open(path: &str) -> Result<Self, Error> {
        Ok(Self(wire::File::open(path)?))
    }

    /// Its size, when it was modified, and which file it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn stat(&self) -> Result<Stat, Error> {
        let wire::FileStat { size, modified_ms, id, attributes: _ } = self.0.stat()?;
        Ok(Stat { size, modified_ms, id })
    }

    /// At most `max_bytes` bytes from `offset` on; none past the end. The agent returns at most 4 MiB at once, unless configured.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, offset: u64, max_bytes: u32) -> Result<Vec<u8>, Error> {
        Ok(self.0.read_at(offset, max_bytes)?)
    }
}

/// The whole file, if it has at most `max_bytes` bytes.
///
/// # Errors
/// As [`File::open`]; and [`Error::TooLarge`].
pub fn read(path: &str, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let file = File::open(path)?;
    let mut whole = Vec::new();
    loop {
        let part = file.read_at(whole.len() as u64, u32::MAX)?;
        if part.is_empty() {
            return Ok(whole);
        }
        whole.extend_from_slice(&part);
        if whole.len() > max_bytes {
            return Err(Error::TooLarge(format!("`{path}` is larger than {max_bytes} bytes")));
        }
    }
}
