//! A certificate authority for tests, and servers with its certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SigningKey, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What the certificate of an authority does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing at all: it is that of a server.
    Signing,
    /// It does not say that it is an authority's.
    Unsaid,
    /// To sign certificates, by the uses of its key.
    Use,
    /// To sign those of servers.
    Servers,
    /// To be used today, since it has expired.
    Expired,
    /// To be used today, since it is not valid yet.
    Early,
    /// An authority between it and a server.
    Between,
}

impl Limit {
    fn set(self, params: &mut CertificateParams) {
        match self {
            Self::Signing => params.is_ca = IsCa::ExplicitNoCa,
            Self::Unsaid => {
                params.is_ca = IsCa::NoCa;
                // An extension, so that it is of version 3.
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            }
            Self::Use => params.key_usages = vec![KeyUsagePurpose::CrlSign],
            Self::Servers => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Self::Expired => Validity::Past.set(params),
            Self::Early => Validity::Future.set(params),
            Self::Between => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        }
    }
}

/// A private certificate authority, with its files in a temporary folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    /// A new authority, in a new temporary folder.
    ///
    /// # Panics
    /// The folder cannot be written.
    #[must_use]
    pub fn new() -> Self {
        Self::limited(None)
    }

    /// As [`Authority::new`]; its certificate does not allow this.
    ///
    /// # Panics
    /// The folder cannot be written.
    #[must_use]
    pub fn limited(limit: Option<Limit>) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if let Some(limit) = limit {
            limit.set(&mut params);
        }
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The file with its root certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str, uses: Vec<KeyUsagePurpose>) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.key_usages = uses;
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    /// Issues a client certificate, and returns the files with the certificate and its key.
    #[must_use]
    pub fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = ["pem", "key"].map(|end| self.folder.path().join(format!("{name}.{end}")));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files.into()
    }

    /// The folder with its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A TLS server for `name`; if `demanding`, clients must present a certificate of this authority.
    #[must_use]
    pub fn server(&self, name: &str, demanding: bool) -> TlsAcceptor {
        self.server_with(name, demanding, Vec::new())
    }

    /// A TLS server for `name` whose key may only sign certificates.
    #[must_use]
    pub fn signer(&self, name: &str) -> TlsAcceptor {
        self.server_with(name, false, vec![KeyUsagePurpose::KeyCertSign])
    }

    fn server_with(&self, name: &str, demanding: bool, uses: Vec<KeyUsagePurpose>) -> TlsAcceptor {
        let (certificate, key) = self.issue(name, uses);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let builder =
            if demanding { builder.with_client_cert_verifier(clients) } else { builder.with_no_client_auth() };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It has expired.
    Past,
    /// It is valid.
    Now,
    /// It is not valid yet.
    Future,
}

impl Validity {
    fn set(self, params: &mut CertificateParams) {
        match self {
            Self::Past => params.not_after = date_time_ymd(2001, 1, 1),
            Self::Now => {}
            Self::Future => params.not_before = date_time_ymd(3001, 1, 1),
        }
    }
}

/// A server's certificate that it has signed itself, as `openssl req -x509` makes it, with its file in a temporary folder.
pub struct SelfSigned {
    certificate: Certificate,
    key: KeyPair,
    folder: tempfile::TempDir,
}

impl SelfSigned {
    /// A new certificate for `name`, which is also that of an authority if `is_authority`.
    ///
    /// # Panics
    /// The folder cannot be written.
    #[must_use]
    pub fn new(name: &str, is_authority: bool, validity: Validity) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        validity.set(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server.pem"), certificate.pem()).unwrap();
        Self { certificate, key, folder }
    }

    /// The file with the certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// A TLS server with it.
    ///
    /// # Panics
    /// rustls refuses it.
    #[must_use]
    pub fn server(&self) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![self.certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How a server's certificate differs from what is usual now. Its name is the common name of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In nothing else.
    CommonName,
    /// It is an authority's, too.
    Authority,
    /// It is of X.509's version 1, without extensions.
    Version1,
    /// Its `subjectAltName` has `other.example`.
    OtherName,
}

/// A server's certificate of an unusual form, with its key.
pub struct Unusual {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// That of the authority between it and the one that is trusted, if there is one.
    between: Option<CertificateDer<'static>>,
    key: KeyPair,
}

impl Unusual {
    /// A certificate for `name` that `authority` has signed, or itself.
    #[must_use]
    pub fn new(name: &str, form: Form, validity: Validity, authority: Option<&Authority>) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = params(name, form, validity);
        let (certificate, signer) = match authority {
            Some(authority) => (params.signed_by(&key, &authority.issuer).unwrap(), authority.issuer.key()),
            None => (params.self_signed(&key).unwrap(), &key),
        };
        let certificate = match form {
            Form::Version1 => as_version_1(certificate.der(), signer),
            _ => certificate.der().clone(),
        };
        Self { certificate, between: None, key }
    }

    /// A certificate for `name` that an authority below `authority` has signed, which may sign names below `domain` alone if there is one.
    #[must_use]
    pub fn below(authority: &Authority, domain: Option<&str>, name: &str) -> Self {
        let mut between = CertificateParams::new([]).unwrap();
        between.distinguished_name.push(DnType::CommonName, "between");
        between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        between.name_constraints = domain.map(|domain| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let its_key = KeyPair::generate().unwrap();
        let its_certificate = between.signed_by(&its_key, &authority.issuer).unwrap().der().clone();
        let issuer = Issuer::new(between, its_key);
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, Form::CommonName, Validity::Now).signed_by(&key, &issuer).unwrap();
        Self { certificate: certificate.der().clone(), between: Some(its_certificate), key }
    }

    /// Its key in PEM form.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// A TLS server with it, which speaks this version only.
    ///
    /// # Panics
    /// rustls refuses its key.
    #[must_use]
    pub fn server(&self, version: &'static rustls::SupportedProtocolVersion) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let chain = std::iter::once(&self.certificate).chain(&self.between).cloned().collect();
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        // rustls itself would not serve a certificate of version 1.
        let own = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(own))))
    }
}

fn params(name: &str, form: Form, validity: Validity) -> CertificateParams {
    let names = if form == Form::OtherName { vec!["other.example".to_owned()] } else { Vec::new() };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = if form == Form::Authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    validity.set(&mut params);
    params
}

/// The same certificate without its version, which is its first field, and its extensions, which are the last, signed again.
fn as_version_1(certificate: &[u8], signer: &KeyPair) -> CertificateDer<'static> {
    let mut parts = elements(content(certificate));
    let mut fields = elements(content(parts.remove(0)));
    fields.remove(0);
    fields.pop();
    let signed = element(0x30, &fields.concat());
    let signature = element(3, &[&[0][..], &signer.sign(&signed).unwrap()].concat());
    element(0x30, &[&signed, parts[0], &signature].concat()).into()
}

/// How long the header of an element of DER is, and all of it. No length has more than two bytes.
fn lengths(bytes: &[u8]) -> (usize, usize) {
    let byte = |at: usize| usize::from(bytes[at]);
    match bytes[1] {
        0x81 => (3, 3 + byte(2)),
        0x82 => (4, 4 + (byte(2) << 8) + byte(3)),
        length => (2, 2 + usize::from(length)),
    }
}

fn content(element: &[u8]) -> &[u8] {
    &element[lengths(element).0..]
}

fn elements(mut list: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !list.is_empty() {
        let (element, rest) = list.split_at(lengths(list).1);
        elements.push(element);
        list = rest;
    }
    elements
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => [&[tag, low], content].concat(),
        0x80..0x100 => [&[tag, 0x81, low], content].concat(),
        _ => [&[tag, 0x82, high, low], content].concat(),
    }
}
