//! Computations for log-ins that would be slow in the sandbox. The agent does them natively.

use crate::bindings::wasaba::plugin::crypto as wire;

pub use wire::Error;

/// PBKDF2 with HMAC-SHA-256: what SCRAM-SHA-256 calls the salted password. The agent caches the last result.
///
/// # Errors
/// Zero iterations, an empty salt, or more iterations than a call may take.
pub fn pbkdf2_hmac_sha256(password: &[u8], salt: &[u8], iterations: u32) -> Result<Vec<u8>, Error> {
    wire::pbkdf2_hmac_sha256(password, salt, iterations)
}

/// SASLprep: the canonical form of a password, which can be typed in several ways. `None` if it has prohibited characters.
#[must_use]
pub fn saslprep(text: &str) -> Option<String> {
    wire::saslprep(text)
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::TooCostly(text) | Error::Invalid(text) => Self::Failed(text),
        }
    }
}
