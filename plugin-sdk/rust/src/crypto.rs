//! What log-ins compute from a secret. The agent does it, since it has the secret's text, and natively.

use crate::agent::crypto as wire;
use crate::{Error, Secret};

/// What both sides of SCRAM send to prove that they know the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramProof {
    /// For `p=` of the client's last message, before base64.
    pub client_proof: Vec<u8>,
    /// What must be in `v=` of the server's last message, before base64.
    pub server_signature: Vec<u8>,
}

/// SCRAM-SHA-256: `auth_message` is what both sides sign. The agent caches the last key.
///
/// # Errors
/// An empty salt, less than 4,096 iterations, or more than a call may take.
pub fn scram_sha256(password: &Secret, salt: &[u8], iterations: u32, auth_message: &str) -> Result<ScramProof, Error> {
    let wire::ScramProof { client_proof, server_signature, attributes: _ } =
        wire::scram_sha256(&password.0, salt, iterations, auth_message)?;
    Ok(ScramProof { client_proof, server_signature })
}

/// PostgreSQL's answer to a request for an MD5 password.
#[must_use]
pub fn postgres_md5(password: &Secret, user: &str, salt: &[u8]) -> String {
    wire::postgres_md5(&password.0, user, salt)
}
