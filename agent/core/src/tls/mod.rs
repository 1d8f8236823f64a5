//! TLS as a client: which certificates are trusted, for Mackerel's API, the Docker engine and plugins alike.

mod anchors;
mod certificate;
mod client;
mod cure;
mod der;
mod pem;
mod places;
mod roots;
#[cfg(test)]
mod tests;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, Error, RootCertStore};

use self::client::Part;
use self::verifier::{Believed, Verifier};
use crate::clock;

pub use self::client::{Client, check};
pub use self::cure::{error_of, lacks_authority, with_cure};
pub use self::places::authorities;
pub use self::verifier::Seen;

/// Which server certificates a connection trusts, and which certificate it presents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// How strictly a server's certificate is verified.
    pub verification: Verification,
    /// A PEM file of certificate authorities, trusted instead of the machine's.
    pub authority: Option<PathBuf>,
    /// The PEM files of the client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How strictly a server's certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// It must be signed by a trusted authority, for the server's name.
    #[default]
    Full,
    /// It must be signed by a trusted authority, for any name.
    Authority,
    /// Any certificate is accepted.
    None,
}

impl Verification {
    /// Its word in settings of kind `tls-mode`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Authority => "ca",
            Self::None => "encrypt",
        }
    }
}

/// A configuration that trusts the machine's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), or
/// Mozilla's on a machine without any: at each handshake those that were read last. Wait for [`ready`] before a connection.
///
/// # Errors
/// The cryptography supports neither TLS 1.2 nor 1.3, which is a bug in the build.
pub fn verifying() -> Result<ClientConfig, Error> {
    let verifier = Verifier { believed: Believed::Machine(&roots::MACHINE), any_name: false, seen: None };
    let mut config = builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    // A resumed session has no certificate, and would outlive its authority.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Waits until the machine's certificate authorities have been read, for some seconds at most.
///
/// # Errors
/// None could be read; the text says why. They are tried again when this is called again.
pub async fn ready() -> Result<(), String> {
    if roots::MACHINE.is_read() {
        return Ok(());
    }
    let read = tokio::task::spawn_blocking(|| roots::MACHINE.make_ready()).await;
    read.unwrap_or_else(|_| Err("the agent crashed; this is a bug in wasaba".to_owned()))
}

/// Reads the machine's certificate authorities again, if a connection needed them before. Blocks.
pub fn read_again() {
    roots::MACHINE.read_again(clock::instant());
}

/// How often the machine's certificate authorities were read again. A connection that was made when the number was another one was
/// verified by authorities that may have been removed since: it must not be used again.
#[must_use]
pub fn times_read_again() -> u64 {
    roots::MACHINE.times_read_again()
}

/// A configuration for connections that are never encrypted. It trusts no certificate and reads no file.
///
/// # Errors
/// As [`verifying`].
pub fn none() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

impl Trust {
    /// The file of authorities, if it is used.
    fn named_authority(&self) -> Option<&Path> {
        self.authority.as_deref().filter(|_| self.verification != Verification::None)
    }

    /// The paths of the files that it names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files().map(|(_, file)| file)
    }

    /// The files, and what each contains.
    fn files(&self) -> impl Iterator<Item = (Part, &Path)> {
        let identity = self.identity.iter().flat_map(|(own, key)| [(Part::Certificate, &**own), (Part::Key, &**key)]);
        self.named_authority().into_iter().map(|file| (Part::Authorities, file)).chain(identity)
    }

    /// Whom it believes, unless a file says so.
    fn believed_without_file(&self) -> Believed {
        if self.verification == Verification::None { Believed::All } else { Believed::Machine(&roots::MACHINE) }
    }

    fn needs_machine(&self) -> bool {
        self.authority.is_none() && self.verification != Verification::None
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}
