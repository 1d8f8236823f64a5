//! Reading the files that the operator granted by settings of kind `file`.

use crate::bindings::wasaba::plugin::files as wire;

pub use wire::Error;

/// The whole file.
///
/// # Errors
/// No grant for it, it cannot be read, or it is larger than the agent returns at once.
pub fn read(path: &str) -> Result<Vec<u8>, Error> {
    wire::read(path)
}

/// At most `max_bytes` bytes from `offset` on; none past the end.
///
/// # Errors
/// As [`read`].
pub fn read_from(path: &str, offset: u64, max_bytes: u32) -> Result<Vec<u8>, Error> {
    wire::read_from(path, offset, max_bytes)
}

/// The file's length in bytes.
///
/// # Errors
/// As [`read`].
pub fn size(path: &str) -> Result<u64, Error> {
    wire::size(path)
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) => Self::Denied(text),
            Error::Unreadable(text) | Error::TooLarge(text) => Self::Failed(text),
        }
    }
}
