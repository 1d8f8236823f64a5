//! Authorities that are trusted, and what is verified of a server's certificate with them.

use std::collections::HashSet;

use ring::digest::{SHA256, digest};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::provider;

/// Certificates that are trusted. One of them may be the server's own, which is then believed as it is, for its names and until it expires.
#[derive(Debug)]
pub(super) struct Anchors {
    store: RootCertStore,
    /// The SHA-256 of each certificate: a machine has some hundred, which are read again when one is needed.
    certificates: HashSet<Vec<u8>>,
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Vec<u8> {
    digest(&SHA256, certificate).as_ref().to_vec()
}

impl Anchors {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { store: RootCertStore::empty(), certificates: HashSet::new() }
    }

    /// Those that no file has.
    pub(super) fn of_roots(roots: &[TrustAnchor<'static>]) -> Self {
        Self { store: RootCertStore { roots: roots.to_vec() }, certificates: HashSet::new() }
    }

    /// Trusts one more, unless it is trusted.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        let fingerprint = fingerprint(&certificate);
        if !self.certificates.contains(&fingerprint) {
            self.store.add(certificate)?;
            self.certificates.insert(fingerprint);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Verifies a server's certificate and, unless that is `None`, that it has this name.
    ///
    /// # Errors
    /// Why it is not trusted.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = provider().signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, intermediates, now, algorithms) {
            // When it is valid has been verified before who signed it.
            Err(error) if is_of_role(&error) || error == unknown_issuer() => {
                if !self.certificates.contains(&fingerprint(certificate)) {
                    return Err(unknown_issuer());
                }
            }
            result => result?,
        }
        name.map_or(Ok(()), |name| verify_server_name(&parsed, name))
    }
}

/// Whether a certificate was refused only because it is also that of an authority, as `openssl req -x509` makes them.
fn is_of_role(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn unknown_issuer() -> Error {
    Error::InvalidCertificate(CertificateError::UnknownIssuer)
}
