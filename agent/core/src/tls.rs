//! TLS as a client: which certificates are trusted, for Mackerel's API, the Docker engine and plugins alike.

mod roots;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::clock;
use crate::paths::{Opened, named, patient};

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
    let verifier = Arc::new(Machine(&roots::MACHINE));
    let mut config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    // A resumed session has no certificate, and would outlive its authority.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Waits until the machine's certificate authorities have been read.
pub async fn ready() {
    if !roots::MACHINE.is_read() {
        // If it panics, so does the first handshake, which reads them again.
        tokio::task::spawn_blocking(|| roots::MACHINE.get()).await.ok();
    }
}

/// Reads the machine's certificate authorities again, if a connection needed them before. Blocks.
pub fn read_again() {
    roots::MACHINE.read_again(clock::instant());
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

/// Reads the files of `trust` once. Blocks.
///
/// # Errors
/// A file cannot be read or has other content; the text names it.
pub fn check(trust: &Trust) -> Result<(), String> {
    Kept::read(trust, None).map(drop)
}

/// What to do about an error of TLS that a connection with this trust had; `None` if the error says enough.
fn cure(error: &Error, trust: &Trust) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return None };
    match (error, &trust.authority) {
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, None) => {
            Some("install its authority into /etc/ssl/certs, or set SSL_CERT_FILE".to_owned())
        }
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Some(file)) => {
            Some(format!("`{}` has neither its authority nor the certificate itself", file.display()))
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            Some("renew it on the server".to_owned())
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            Some("check this machine's clock".to_owned())
        }
        _ => None,
    }
}

/// `text`, with what to do about `error` if it is one of TLS.
#[must_use]
pub fn with_cure(text: String, error: &(dyn std::error::Error + 'static), trust: &Trust) -> String {
    match error_of(error).and_then(|error| cure(error, trust)) {
        Some(cure) => format!("{text}; {cure}"),
        None => text,
    }
}

/// The error of TLS that `error` is or carries.
#[must_use]
pub fn error_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    // An error of input and output does not name what it carries as its source.
    if let Some(carried) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return error_of(carried);
    }
    error.downcast_ref().or_else(|| error_of(error.source()?))
}

/// The TLS of connections with one trust. Its files are read for the first connection, and again when they have changed. Clones share
/// what was read.
#[derive(Clone, Debug, Default)]
pub struct Client(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    trust: Trust,
    kept: Mutex<Option<Kept>>,
}

/// What was read, and from which files.
#[derive(Clone, Debug)]
struct Kept {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
    verifier: Verifier,
}

/// What differs between two contents of a file: device, inode, size, and the times of the last changes.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(file: &Opened) -> Stamp {
    let about = &file.about;
    let (modified, changed) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    (about.dev(), about.ino(), about.len(), modified, changed)
}

impl Client {
    /// For connections with this trust. Nothing is read yet.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(Shared { trust, kept: Mutex::default() }))
    }

    /// Which certificates it trusts.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// The configuration, which is the same one until a file changes.
    ///
    /// # Errors
    /// A file cannot be read or has other content, or its file system does not answer; the text names it.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        Ok(self.kept().await?.config)
    }

    /// A configuration of its own: `seen` gets the certificates that the server sends, whether or not they are trusted.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub async fn watched(&self, seen: &Seen) -> Result<ClientConfig, String> {
        let Kept { config, verifier, .. } = self.kept().await?;
        let mut config = ClientConfig::clone(&config);
        // A server does not send its certificates again in a resumed session.
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(Arc::new(Watched { verifier, seen: seen.clone() }));
        Ok(config)
    }

    async fn kept(&self) -> Result<Kept, String> {
        if self.0.trust.needs_machine() {
            ready().await;
        }
        let file = self.0.trust.files().next().map(|(_, file)| file.to_owned());
        let (Some(file), shared) = (file, Arc::clone(&self.0)) else { return self.0.read() };
        let read = tokio::task::spawn_blocking(move || {
            let read = patient::ask(&file, patient::LOOK, move |_| shared.read());
            read.map_err(|error| unusable("a certificate", &file, &error)).flatten()
        });
        read.await.unwrap_or_else(|_| Err("the agent crashed; this is a bug in wasaba".to_owned()))
    }
}

impl Shared {
    fn read(&self) -> Result<Kept, String> {
        let before = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kept = Kept::read(&self.trust, before)?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).replace(kept.clone());
        Ok(kept)
    }
}

impl Trust {
    /// The file of authorities, if it is used.
    fn named_authority(&self) -> Option<&Path> {
        self.authority.as_deref().filter(|_| self.verification != Verification::None)
    }

    /// The files, and what each contains.
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let identity = self.identity.iter().flat_map(|(own, key)| [(CERTIFICATE, &**own), (KEY, &**key)]);
        self.named_authority().into_iter().map(|file| (CERTIFICATE, file)).chain(identity)
    }

    fn needs_machine(&self) -> bool {
        self.authority.is_none() && self.verification != Verification::None
    }
}

const CERTIFICATE: &str = "a certificate";
const KEY: &str = "a private key";

impl Kept {
    /// What the files of `trust` say; `before`, if they are the same.
    fn read(trust: &Trust, before: Option<Self>) -> Result<Self, String> {
        let open = |(what, file): (&str, &Path)| named::open(file).map_err(|error| unusable(what, file, &error));
        let opened = trust.files().map(open).collect::<Result<Vec<_>, _>>()?;
        let stamps = opened.iter().map(stamp).collect::<Vec<_>>();
        if let Some(before) = before.filter(|before| before.stamps == stamps) {
            return Ok(before);
        }
        let read = |((what, file), opened): ((&str, &Path), Opened)| {
            opened.read(LONGEST_FILE_BYTES).map_err(|error| unusable(what, file, &error))
        };
        let mut contents = trust.files().zip(opened).map(read).collect::<Result<Vec<_>, _>>()?.into_iter();
        let authority = trust.named_authority().and_then(|file| Some((file, contents.next()?)));
        let verifier = verifier(trust, authority)?;
        let plain = |error: Error| error.to_string();
        let builder = builder().map_err(plain)?.dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match (&trust.identity, contents.next(), contents.next()) {
            (Some((own, key)), Some(certificate), Some(secret)) => {
                let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| unusable(KEY, key, &error))?;
                builder.with_client_auth_cert(certificates(own, &certificate)?, secret).map_err(plain)?
            }
            _ => builder.with_no_client_auth(),
        };
        if trust.needs_machine() {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { stamps, config: Arc::new(config), verifier })
    }
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

type Verifier = Arc<dyn ServerCertVerifier>;

/// `authority` is the file of that name and its content.
fn verifier(trust: &Trust, authority: Option<(&Path, Vec<u8>)>) -> Result<Verifier, String> {
    let authority = || {
        Ok::<Verifier, String>(match authority {
            Some((file, bytes)) => Arc::new(Named::read(file, &bytes)?),
            None => Arc::new(Machine(&roots::MACHINE)),
        })
    };
    let algorithms = provider().signature_verification_algorithms;
    Ok(match trust.verification {
        Verification::None => Arc::new(Lenient { authority: None, algorithms }),
        Verification::Authority => Arc::new(Lenient { authority: Some(authority()?), algorithms }),
        Verification::Full => authority()?,
    })
}

fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(unusable(CERTIFICATE, file, &"it contains none")),
        certificates => certificates.map_err(|error| unusable(CERTIFICATE, file, &error)),
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

/// Verifies with the authorities of the machine that were read last.
#[derive(Debug)]
struct Machine(&'static roots::Roots);

impl ServerCertVerifier for Machine {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.0.get()?;
        let result = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let result = result.map_err(|error| if is_of_role(&error) { unknown_issuer() } else { error });
        if matches!(result, Err(Error::InvalidCertificate(_))) {
            self.0.suspect(clock::instant());
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
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

/// Verifies with the authorities that the operator has named. One of them may be the server's own certificate, which is then believed as
/// it is, for its names and until it expires.
#[derive(Debug)]
struct Named {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Named {
    fn read(file: &Path, bytes: &[u8]) -> Result<Self, String> {
        let certificates = certificates(file, bytes)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| unusable("a certificate authority", file, &error))?;
        }
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
        Ok(Self { authorities: authorities.map_err(|error| error.to_string())?, certificates })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // When it is valid has been verified before who signed it.
            Err(error) if is_of_role(&error) || error == unknown_issuer() => {
                if !self.certificates.contains(&end_entity.clone().into_owned()) {
                    return Err(unknown_issuer());
                }
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
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
    authority: Option<Verifier>,
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
    use rustls::HandshakeKind;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};
    use wasaba_testing::authority::{Authority, SelfSigned, Validity};

    use super::*;

    /// Whether the handshake of a client with this trust succeeds when it connects to `localhost`.
    async fn agree(trust: &Trust, server: TlsAcceptor) -> bool {
        agree_with(Client::new(trust.clone()).config().await.unwrap(), server).await
    }

    async fn agree_with(config: Arc<ClientConfig>, server: TlsAcceptor) -> bool {
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(config);
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
            let connector = TlsConnector::from(Arc::new(Client::new(trust.clone()).watched(&seen).await.unwrap()));
            let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
            let (client, _) = tokio::join!(client, accepted(authority.server("localhost", false), far));
            assert_eq!(client.is_ok(), trust.authority.is_some());
            // DER begins with a sequence.
            assert!(seen.chain().first().is_some_and(|certificate| certificate.starts_with(&[0x30])), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_session_that_the_machines_authorities_believed_is_not_resumed() {
        let server = Authority::new().server("localhost", false);
        let of_plugins = ClientConfig::clone(&Client::default().config().await.unwrap());
        for mut config in [verifying().unwrap(), of_plugins] {
            // Any certificate, since this machine has no authority of tests.
            let any = Trust { verification: Verification::None, ..Trust::default() };
            config.dangerous().set_certificate_verifier(verifier(&any, None).unwrap());
            let connector = TlsConnector::from(Arc::new(config));
            for _ in 0..2 {
                let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
                let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
                let (client, server) = tokio::join!(client, server.accept(far));
                let (mut client, mut server) = (client.unwrap(), server.unwrap());
                // Behind what a session could be resumed with.
                server.write_all(b"x").await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'x');
                assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            }
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
            let error = check(&trust).unwrap_err();
            assert!(error.contains(&file.display().to_string()) && error.contains("PEM"), "{error}");
        }
    }

    /// A trust in the certificate in this file, as the operator names it.
    fn naming(file: &Path, verification: Verification) -> Trust {
        Trust { verification, authority: Some(file.to_owned()), identity: None }
    }

    #[tokio::test]
    async fn a_servers_own_certificate_that_is_named_is_believed_for_its_name_and_no_other_is() {
        for is_authority in [true, false] {
            let own = SelfSigned::new("localhost", is_authority, Validity::Now);
            for verification in [Verification::Full, Verification::Authority] {
                let trust = naming(&own.file(), verification);
                assert!(agree(&trust, own.server()).await, "{verification:?}, authority: {is_authority}");
                let other = SelfSigned::new("localhost", is_authority, Validity::Now);
                assert!(!agree(&trust, other.server()).await, "another certificate of the same name");
            }
            assert!(!agree(&Trust::default(), own.server()).await, "it is not named");
            for (validity, why) in [(Validity::Past, "expired"), (Validity::Future, "not valid yet")] {
                let own = SelfSigned::new("localhost", is_authority, validity);
                assert!(!agree(&naming(&own.file(), Verification::Full), own.server()).await, "{why}");
                assert!(!agree(&naming(&own.file(), Verification::Authority), own.server()).await, "{why}");
            }
            let elsewhere = SelfSigned::new("elsewhere", is_authority, Validity::Now);
            assert!(!agree(&naming(&elsewhere.file(), Verification::Full), elsewhere.server()).await, "another name");
            assert!(agree(&naming(&elsewhere.file(), Verification::Authority), elsewhere.server()).await, "any name");
        }
    }

    #[tokio::test]
    async fn naming_a_servers_certificate_makes_no_other_of_its_authority_believed() {
        let authority = Authority::new();
        let (certificate, _) = authority.identity("localhost");
        let trust = naming(&certificate, Verification::Full);
        assert!(!agree(&trust, authority.server("localhost", false)).await);
    }

    #[tokio::test]
    async fn files_are_read_again_only_when_they_have_changed() {
        let authority = Authority::new();
        let client = Client::new(trusting(&authority, Verification::Full));
        let first = client.config().await.unwrap();
        assert!(Arc::ptr_eq(&first, &client.config().await.unwrap()));
        let other = Authority::new();
        std::fs::copy(other.file(), authority.file()).unwrap();
        let second = client.config().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &client.config().await.unwrap()));
        std::fs::remove_file(authority.file()).unwrap();
        assert!(client.config().await.unwrap_err().contains("ca.pem"));
    }

    #[tokio::test]
    async fn an_authority_that_is_installed_later_is_believed_by_the_same_client_after_a_failure() {
        static INSTALLED: Mutex<Vec<CertificateDer<'static>>> = Mutex::new(Vec::new());
        fn load() -> RootCertStore {
            let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            store.add_parsable_certificates(INSTALLED.lock().unwrap().iter().cloned());
            store
        }
        static ROOTS: roots::Roots = roots::Roots::new(load);
        let authority = Authority::new();
        let verifier = Arc::new(Machine(&ROOTS));
        let config = builder().unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let config = Arc::new(config);
        let server = || authority.server("localhost", false);
        ROOTS.get().unwrap();
        let bytes = std::fs::read(authority.file()).unwrap();
        *INSTALLED.lock().unwrap() = certificates(&authority.file(), &bytes).unwrap();
        assert!(!agree_with(Arc::clone(&config), server()).await, "those that were read before");
        while !agree_with(Arc::clone(&config), server()).await {
            tokio::task::yield_now().await;
        }
        assert!(!agree_with(config, Authority::new().server("localhost", false)).await, "another authority");
    }

    #[test]
    fn a_failure_says_what_to_do_about_it() {
        let machine = Trust::default();
        let cure = |error: CertificateError, trust: &Trust| cure(&error.into(), trust).unwrap_or_default();
        assert!(cure(CertificateError::UnknownIssuer, &machine).contains("/etc/ssl/certs, or set SSL_CERT_FILE"));
        let named = naming(Path::new("/ca.pem"), Verification::Full);
        assert!(cure(CertificateError::UnknownIssuer, &named).starts_with("`/ca.pem` has neither"));
        assert_eq!(cure(CertificateError::Expired, &machine), "renew it on the server");
        assert_eq!(cure(CertificateError::NotValidYet, &named), "check this machine's clock");
        assert_eq!(
            with_cure("x".into(), &Error::from(CertificateError::Expired), &machine),
            "x; renew it on the server"
        );
        assert_eq!(with_cure("x".into(), &Error::DecryptError, &machine), "x");
        let wrapped = std::io::Error::other(std::io::Error::other(Error::DecryptError));
        assert_eq!(error_of(&wrapped), Some(&Error::DecryptError));
        assert_eq!(error_of(&std::io::Error::other("certificate")), None);
    }
}
