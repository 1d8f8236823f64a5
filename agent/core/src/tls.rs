//! TLS as a client: which certificates are trusted, for Mackerel's API, the Docker engine and plugins alike.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::paths::named;

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
/// Mozilla's on a machine without any.
///
/// # Errors
/// The cryptography supports neither TLS 1.2 nor 1.3, which is a bug in the build.
pub fn verifying() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(roots()).with_no_client_auth())
}

/// The authorities of a Debian machine are 220 kB in total.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// A configuration for connections that are never encrypted. It trusts no certificate and reads no file.
///
/// # Errors
/// As [`verifying`].
pub fn none() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The configuration for `trust`. Reads the named files each time, so that a renewed certificate takes effect at once.
///
/// # Errors
/// A file cannot be read or has other content; the text names it.
pub fn client(trust: &Trust) -> Result<ClientConfig, String> {
    configured(trust, verifier(trust)?)
}

/// As [`client`], and `seen` gets the certificates that the server sends, whether or not they are trusted.
///
/// # Errors
/// As [`client`].
pub fn watched(trust: &Trust, seen: &Seen) -> Result<ClientConfig, String> {
    configured(trust, Arc::new(Watched { verifier: verifier(trust)?, seen: seen.clone() }))
}

/// The certificates that a server has sent, in DER, its own first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<Vec<u8>>>>);

impl Seen {
    /// The certificates; none if the handshake did not come so far.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn configured(trust: &Trust, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, String> {
    let plain = |error: Error| error.to_string();
    let builder = builder().map_err(plain)?.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &trust.identity else { return Ok(builder.with_no_client_auth()) };
    let bytes = named::read(key, LONGEST_FILE_BYTES).map_err(|error| unusable("a private key", key, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable("a private key", key, &error))?;
    builder.with_client_auth_cert(certificates(certificate)?, key).map_err(plain)
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let algorithms = provider().signature_verification_algorithms;
    let authority = || {
        let verifier = WebPkiServerVerifier::builder_with_provider(authorities(trust)?, provider()).build();
        verifier.map_err(|error| error.to_string())
    };
    Ok(match trust.verification {
        Verification::None => Arc::new(Lenient { authority: None, algorithms }),
        Verification::Authority => Arc::new(Lenient { authority: Some(authority()?), algorithms }),
        Verification::Full => authority()?,
    })
}

fn authorities(trust: &Trust) -> Result<Arc<RootCertStore>, String> {
    let Some(file) = &trust.authority else { return Ok(roots()) };
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| unusable("a certificate authority", file, &error))?;
    }
    Ok(Arc::new(store))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = named::read(file, LONGEST_FILE_BYTES);
    let bytes = bytes.map_err(|error| unusable("a certificate", file, &error))?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(unusable("a certificate", file, &"it contains none")),
        certificates => certificates.map_err(|error| unusable("a certificate", file, &error)),
    }
}

fn unusable(what: &str, file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("cannot read {what} in PEM form from `{}`: {why}", file.display())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// The machine's authorities. Read once per process, and never without a TLS connection: they take a few hundred kB.
fn roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    }))
}

/// Keeps what the server sends, and verifies it as another verifier does.
#[derive(Debug)]
struct Watched {
    verifier: Arc<dyn ServerCertVerifier>,
    seen: Seen,
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec());
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Verifies less than a certificate's authority and name, but still that the server owns its key.
#[derive(Debug)]
struct Lenient {
    /// Who must have signed the certificate, for any name (`sslmode=verify-ca`); `None` accepts any certificate.
    authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is verified last, when everything else is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};
    use wasaba_testing::authority::Authority;

    use super::*;

    /// Whether the handshake of a client with this trust succeeds when it connects to `localhost`.
    async fn agree(trust: &Trust, server: TlsAcceptor) -> bool {
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(Arc::new(client(trust).unwrap()));
        let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
        let (client, server) = tokio::join!(client, accepted(server, far));
        client.is_ok() && server
    }

    /// With TLS 1.3 a client learns only when it reads that its certificate was refused; the server knows at once.
    async fn accepted(server: TlsAcceptor, stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
        server.accept(stream).await.is_ok()
    }

    fn trusting(authority: &Authority, verification: Verification) -> Trust {
        Trust { verification, authority: Some(authority.file()), identity: None }
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_for_the_right_name_only() {
        let authority = Authority::new();
        let full = trusting(&authority, Verification::Full);
        assert!(agree(&full, authority.server("localhost", false)).await);
        assert!(!agree(&full, authority.server("elsewhere", false)).await, "another name");
        assert!(!agree(&full, Authority::new().server("localhost", false)).await, "another authority");
        assert!(!agree(&Trust::default(), authority.server("localhost", false)).await, "the machine's authorities");
    }

    #[tokio::test]
    async fn without_the_name_any_name_is_accepted_and_without_verification_any_certificate() {
        let authority = Authority::new();
        let any_name = trusting(&authority, Verification::Authority);
        assert!(agree(&any_name, authority.server("elsewhere", false)).await);
        assert!(!agree(&any_name, Authority::new().server("localhost", false)).await, "another authority");
        let none = Trust { verification: Verification::None, ..Trust::default() };
        assert!(agree(&none, authority.server("elsewhere", false)).await);
    }

    #[tokio::test]
    async fn a_client_certificate_is_presented_to_a_server_that_requires_one() {
        let authority = Authority::new();
        let without = trusting(&authority, Verification::Full);
        assert!(!agree(&without, authority.server("localhost", true)).await);
        let with = Trust { identity: Some(authority.identity("agent")), ..without };
        assert!(agree(&with, authority.server("localhost", true)).await);
    }

    #[tokio::test]
    async fn a_servers_certificate_is_seen_whether_or_not_it_is_trusted() {
        let authority = Authority::new();
        for trust in [trusting(&authority, Verification::Full), Trust::default()] {
            let seen = Seen::default();
            let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
            let connector = TlsConnector::from(Arc::new(watched(&trust, &seen).unwrap()));
            let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
            let (client, _) = tokio::join!(client, accepted(authority.server("localhost", false), far));
            assert_eq!(client.is_ok(), trust.authority.is_some());
            // DER begins with a sequence.
            assert!(seen.chain().first().is_some_and(|certificate| certificate.starts_with(&[0x30])), "{seen:?}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_or_key_is_named() {
        let authority = Authority::new();
        let empty = authority.folder().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let (certificate, key) = authority.identity("agent");
        for (trust, file) in [
            (Trust { authority: Some(empty.clone()), ..Trust::default() }, &empty),
            (Trust { identity: Some((empty.clone(), key.clone())), ..Trust::default() }, &empty),
            (Trust { identity: Some((certificate.clone(), certificate.clone())), ..Trust::default() }, &certificate),
            (Trust { authority: Some("/no/such".into()), ..Trust::default() }, &PathBuf::from("/no/such")),
        ] {
            let error = client(&trust).map(drop).unwrap_err();
            assert!(error.contains(&file.display().to_string()) && error.contains("PEM"), "{error}");
        }
    }
}
