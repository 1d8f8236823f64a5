//! Authorities that are trusted, and what is verified of a server's certificate with them.

use std::collections::HashSet;

use ring::digest::{SHA256, digest};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::certificate::Certificate;
use super::provider;

/// Certificates that are trusted. One of them may be the server's own, which is then believed as it is, for its names and until it expires.
#[derive(Debug)]
pub(super) struct Anchors {
    /// Those that may sign.
    authorities: Vec<Authority>,
    /// The SHA-256 of each certificate: a machine has some hundred, which are read again when one is needed.
    certificates: HashSet<Vec<u8>>,
}

/// An authority, and what webpki does not keep of it.
#[derive(Debug)]
struct Authority {
    anchor: TrustAnchor<'static>,
    /// From when until when it is valid; one that no file has is always.
    dates: Option<(UnixTime, UnixTime)>,
    /// How many authorities may be between it and a server.
    most_between: Option<usize>,
}

impl Authority {
    fn is_valid(&self, now: UnixTime) -> bool {
        self.dates.is_none_or(|(from, until)| from <= now && now <= until)
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Vec<u8> {
    digest(&SHA256, certificate).as_ref().to_vec()
}

impl Anchors {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { authorities: Vec::new(), certificates: HashSet::new() }
    }

    /// Those that no file has.
    pub(super) fn of_roots(roots: &[TrustAnchor<'static>]) -> Self {
        let authority =
            |anchor: &TrustAnchor<'static>| Authority { anchor: anchor.clone(), dates: None, most_between: None };
        Self { authorities: roots.iter().map(authority).collect(), certificates: HashSet::new() }
    }

    /// Trusts one more, unless it is trusted. One that may not sign is believed itself and nothing else: whoever has the key of a server's
    /// own certificate is not an authority.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        let fingerprint = fingerprint(&certificate);
        if !self.certificates.contains(&fingerprint) {
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| Error::General(error.to_string()))?
                .to_owned();
            let read = Certificate::read(&certificate).ok_or(CertificateError::BadEncoding)?;
            if let Some(most_between) = read.signs() {
                self.authorities.push(Authority { anchor, dates: Some(read.dates()), most_between });
            }
            self.certificates.insert(fingerprint);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.certificates.is_empty()
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
        let valid = self.authorities.iter().filter(|authority| authority.is_valid(now));
        let store = RootCertStore { roots: valid.map(|authority| authority.anchor.clone()).collect() };
        let chain = Chain { certificate, intermediates, roots: &store.roots, now };
        let parsed = ParsedCertificate::try_from(certificate);
        let verified = parsed.as_ref().map_err(Error::clone).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(parsed, &store, intermediates, now, algorithms())
        });
        let verified = verified.and_then(|()| self.check_limits(&chain));
        let is_by_chain = verified.is_ok();
        match verified {
            Err(error) if is_of_form(&error) || error == unknown_issuer() => self.verify_as_it_is(&chain, error)?,
            result => result?,
        }
        let Some(name) = name else { return Ok(()) };
        let named = parsed.and_then(|parsed| verify_server_name(&parsed, name));
        let is_named = named.is_ok()
            || Certificate::read(certificate).is_some_and(|certificate| certificate.has_common_name(name))
                && !(is_by_chain && chain.limits_names());
        match named {
            _ if is_named => Ok(()),
            Err(error) if is_of_form(&error) => {
                let expected = name.to_owned();
                Err(CertificateError::NotValidForNameContext { expected, presented: Vec::new() }.into())
            }
            result => result,
        }
    }

    /// Verifies a certificate that webpki refuses with `error`: it is trusted itself, or only its form is the reason and an authority that is
    /// trusted has signed it.
    fn verify_as_it_is(&self, chain: &Chain<'_>, error: Error) -> Result<(), Error> {
        let Some(certificate) = Certificate::read(chain.certificate) else { return Err(error) };
        certificate.check_dates(chain.now)?;
        let is_signed = || chain.roots.iter().any(|anchor| certificate.is_signed_by(anchor, algorithms()));
        if self.certificates.contains(&fingerprint(chain.certificate))
            || is_of_form(&error) && certificate.is_for_servers() && certificate.may_serve() && is_signed()
        {
            return Ok(());
        }
        let is_issuer = |bytes: &CertificateDer<'_>| {
            Certificate::read(bytes).is_some_and(|other| other.subject == certificate.issuer)
        };
        let is_root = |anchor: &TrustAnchor<'_>| *anchor.subject == *certificate.issuer;
        let has_issuer = chain.roots.iter().any(is_root) || chain.intermediates.iter().any(is_issuer);
        Err(if has_issuer { error } else { unknown_issuer() })
    }

    /// Checks what webpki does not: that the server's key may be a server's, and that not more authorities are between than the trusted one
    /// allows.
    fn check_limits(&self, chain: &Chain<'_>) -> Result<(), Error> {
        if !Certificate::read(chain.certificate).is_some_and(|certificate| certificate.may_serve()) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if self.authorities.iter().all(|authority| authority.most_between.is_none()) {
            return Ok(());
        }
        let is_within = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            let mut same = self.authorities.iter().filter(|authority| authority.anchor == *path.anchor());
            same.any(|authority| authority.most_between.is_none_or(|most| between <= most))
        };
        if chain.has_way(&is_within) { Ok(()) } else { Err(unknown_issuer()) }
    }
}

/// What a server has sent, and those authorities of ours that are valid now.
struct Chain<'a> {
    certificate: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    roots: &'a [TrustAnchor<'static>],
    now: UnixTime,
}

impl Chain<'_> {
    /// Whether a way to one of the roots is such a one.
    fn has_way(&self, is_such: &dyn Fn(&VerifiedPath<'_>) -> bool) -> bool {
        let Self { certificate, intermediates, roots, now } = *self;
        let check = |path: &VerifiedPath<'_>| if is_such(path) { Ok(()) } else { Err(webpki::Error::UnknownIssuer) };
        let usage = KeyUsage::server_auth();
        EndEntityCert::try_from(certificate).is_ok_and(|parsed| {
            parsed.verify_for_usage(algorithms(), roots, intermediates, now, usage, None, Some(&check)).is_ok()
        })
    }

    /// Whether no way is without an authority that limits names, which webpki holds only against names that are not common ones.
    fn limits_names(&self) -> bool {
        let limits = |bytes: &[u8]| Certificate::read(bytes).is_none_or(|certificate| certificate.limits_names());
        !self.has_way(&|path| {
            path.anchor().name_constraints.is_none()
                && !path.intermediate_certificates().any(|other| limits(&other.der()))
        })
    }
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    provider().signature_verification_algorithms.all
}

/// What webpki found, if rustls has no word for it.
pub(super) fn of_webpki(error: &Error) -> Option<&webpki::Error> {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return None };
    other.0.downcast_ref()
}

/// Whether a certificate was refused only for its form: its version, or that it is also an authority's, as `openssl req -x509` makes them.
pub(super) fn is_of_form(error: &Error) -> bool {
    use webpki::Error::{CaUsedAsEndEntity, UnsupportedCertVersion};
    matches!(of_webpki(error), Some(CaUsedAsEndEntity | UnsupportedCertVersion))
}

fn unknown_issuer() -> Error {
    Error::InvalidCertificate(CertificateError::UnknownIssuer)
}
