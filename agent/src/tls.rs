//! TLS as a client: which certificates are believed, for Mackerel's API and for plugins alike.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whom an instance's connections believe, and who they say they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// How closely a server's certificate is looked at.
    pub verification: Verification,
    /// A file of certificate authorities in PEM form, believed in place of the machine's.
    pub authority: Option<PathBuf>,
    /// The files of the client's certificate and its key in PEM form.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How closely a server's certificate is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// It is of a believed authority and for the server's name.
    #[default]
    Full,
    /// It is of a believed authority, for whatever name.
    Authority,
    /// Any is accepted.
    None,
}

/// A configuration that believes the machine's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others),
/// or, on a machine without any, those that Mozilla ships.
///
/// # Errors
/// Only if the cryptography has no protocol version in common with TLS 1.2 or 1.3, which is a bug in the build.
pub fn verifying() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(roots()).with_no_client_auth())
}

/// A configuration for connections that are never encrypted. It believes nobody, and costs no reading of certificates.
///
/// # Errors
/// As [`verifying`].
pub fn none() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// A configuration by an operator's wishes. Reads the files that it names, so that a renewed certificate counts at once.
///
/// # Errors
/// A file that cannot be read or has something else in it, as text that names it.
pub fn client(trust: &Trust) -> Result<ClientConfig, String> {
    let plain = |error: Error| error.to_string();
    let builder = builder().map_err(plain)?;
    let algorithms = provider().signature_verification_algorithms;
    let builder = match trust.verification {
        Verification::None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(algorithms))),
        Verification::Full => builder.with_root_certificates(authorities(trust)?),
        Verification::Authority => {
            let inner = WebPkiServerVerifier::builder_with_provider(authorities(trust)?, provider()).build();
            let verifier = AnyName(inner.map_err(|error| error.to_string())?);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let Some((certificate, key)) = &trust.identity else { return Ok(builder.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("a private key", key, &error))?;
    builder.with_client_auth_cert(certificates(certificate)?, key).map_err(plain)
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
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable("a certificate", file, &"there is none in it")),
        certificates => certificates.map_err(|error| unusable("a certificate", file, &error)),
    }
}

fn unusable(what: &str, file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("cannot take {what} in PEM form from `{}`: {why}", file.display())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// Read once in the life of the process; a few hundred kB that an agent without TLS connections never spends.
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

/// Believes any certificate, but still checks that the other side owns the key of the one that it shows.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Believes a certificate of a believed authority, whatever name it is for (`sslmode=verify-ca`).
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when everything else has been found good.
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
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
