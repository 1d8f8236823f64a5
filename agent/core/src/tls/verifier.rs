//! Whom a connection believes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::anchors::{Anchors, is_of_form};
use super::certificate::{Certificate, has_signed};
use super::provider;
use super::roots::Roots;

/// The certificates that a server has sent, in DER, its own first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<Vec<u8>>>>);

impl Seen {
    /// The certificates; none if the handshake did not come so far.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub(super) enum Believed {
    /// Those of the machine's authorities, as they were read last.
    Machine(&'static Roots),
    /// Those of authorities that the operator has named.
    Named(Arc<Anchors>),
    /// Any certificate.
    All,
}

/// Verifies a server's certificate, and always that the server owns its key.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    pub(super) believed: Believed,
    /// Whether the certificate may have any name (`sslmode=verify-ca`).
    pub(super) any_name: bool,
    /// Gets what the server sends, whether or not it is trusted.
    pub(super) seen: Option<Seen>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(seen) = &self.seen {
            seen.keep(end_entity, intermediates);
        }
        let name = (!self.any_name).then_some(server_name);
        match &self.believed {
            Believed::Machine(roots) => roots.verify(end_entity, intermediates, name, now)?,
            Believed::Named(anchors) => anchors.verify(end_entity, intermediates, name, now)?,
            Believed::All => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        let result = rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms);
        by_key(result, certificate, |key| {
            let mut of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
            let has_signed = |algorithm| has_signed(key, algorithm, message, signature.signature());
            let is_valid = of_scheme.any(|(_, fitting)| fitting.iter().any(|algorithm| has_signed(*algorithm)));
            if is_valid { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        let result = rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms);
        by_key(result, certificate, |key| verify_tls13_signature_with_raw_key(message, key, signature, &algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What the library says of the handshake's signature, or `verify` of the certificate's key if the library refuses the certificate for its
/// version.
fn by_key(
    result: Result<HandshakeSignatureValid, Error>,
    certificate: &CertificateDer<'_>,
    verify: impl FnOnce(&SubjectPublicKeyInfoDer<'_>) -> Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    let Err(error) = result else { return result };
    match Certificate::read(certificate) {
        Some(certificate) if certificate.has_short_key() => Err(Error::InvalidCertificate(ShortKey.into())),
        Some(certificate) if is_of_form(&error) => verify(&certificate.key()),
        _ => Err(error),
    }
}

/// A server's key is one of RSA that is too short to be verified with.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortKey;

impl fmt::Display for ShortKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("its key is one of RSA with fewer than 2048 bits")
    }
}

impl std::error::Error for ShortKey {}

impl From<ShortKey> for CertificateError {
    fn from(error: ShortKey) -> Self {
        Self::Other(OtherError(Arc::new(error)))
    }
}
