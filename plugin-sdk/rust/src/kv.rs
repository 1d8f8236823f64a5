//! Small values that one instance keeps from call to call. What a call has set is kept when it has ended well.

use crate::bindings::wasaba::plugin::kv as wire;

pub use wire::Error;

/// The value of `key`, if there is one.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    wire::get(key)
}

/// Sets the value of `key`.
///
/// # Errors
/// It does not fit any more, or the key is empty or too long.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    wire::set(key, value.as_ref())
}

/// Deletes `key`, if it is there.
pub fn delete(key: &str) {
    wire::delete(key);
}

/// All keys, sorted.
#[must_use]
pub fn keys() -> Vec<String> {
    wire::keys()
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Full(text) | Error::Invalid(text) => Self::Failed(text),
        }
    }
}
