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
        let parsed = ParsedCertificate::try_from(certificate);
        let algorithms = algorithms();
        let verified = parsed.as_ref().map_err(Error::clone).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(parsed, &store, intermediates, now, algorithms)
        });
        let verified = verified.and_then(|()| self.check_limits(certificate, &store.roots, intermediates, now));
        let is_by_chain = verified.is_ok();
        match verified {
            Err(error) if is_of_form(&error) || error == unknown_issuer() => {
                self.verify_as_it_is(certificate, &store.roots, intermediates, now, error)?;
            }
            result => result?,
        }
        let Some(name) = name else { return Ok(()) };
        let named = parsed.and_then(|parsed| verify_server_name(&parsed, name));
        let is_named = named.is_ok()
            || Certificate::read(certificate).is_some_and(|certificate| certificate.has_common_name(name))
                && !(is_by_chain && limits_names(certificate, &store.roots, intermediates, now));
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
    fn verify_as_it_is(
        &self,
        bytes: &CertificateDer<'_>,
        roots: &[TrustAnchor<'_>],
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        error: Error,
    ) -> Result<(), Error> {
        let Some(certificate) = Certificate::read(bytes) else { return Err(error) };
        certificate.check_dates(now)?;
        let is_signed = || roots.iter().any(|anchor| certificate.is_signed_by(anchor, algorithms()));
        if self.certificates.contains(&fingerprint(bytes))
            || is_of_form(&error) && certificate.is_for_servers() && certificate.may_serve() && is_signed()
        {
            return Ok(());
        }
        let is_issuer = |bytes: &CertificateDer<'_>| {
            Certificate::read(bytes).is_some_and(|other| other.subject == certificate.issuer)
        };
        let has_issuer =
            roots.iter().any(|anchor| *anchor.subject == *certificate.issuer) || intermediates.iter().any(is_issuer);
        Err(if has_issuer { error } else { unknown_issuer() })
    }

    /// Checks what webpki does not: that the server's key may be a server's, and that not more authorities are between than the trusted one
    /// allows.
    fn check_limits(
        &self,
        certificate: &CertificateDer<'_>,
        roots: &[TrustAnchor<'_>],
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if !Certificate::read(certificate).is_some_and(|certificate| certificate.may_serve()) {
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
        let check = |path: &VerifiedPath<'_>| match is_within(path) {
            true => Ok(()),
            false => Err(webpki::Error::PathLenConstraintViolated),
        };
        if is_way(certificate, roots, intermediates, now, &check) { Ok(()) } else { Err(unknown_issuer()) }
    }
}

/// Whether no way to an authority is without one that limits names, which webpki holds only against names that are not common ones.
fn limits_names(
    certificate: &CertificateDer<'_>,
    roots: &[TrustAnchor<'_>],
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> bool {
    let check = |path: &VerifiedPath<'_>| {
        let limits = |bytes: &[u8]| Certificate::read(bytes).is_none_or(|certificate| certificate.limits_names());
        let mut between = path.intermediate_certificates();
        let is_limited = path.anchor().name_constraints.is_some() || between.any(|other| limits(&other.der()));
        if is_limited { Err(webpki::Error::NameConstraintViolation) } else { Ok(()) }
    };
    !is_way(certificate, roots, intermediates, now, &check)
}

/// Whether there is a way to one of the roots that passes the check.
fn is_way(
    certificate: &CertificateDer<'_>,
    roots: &[TrustAnchor<'_>],
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    check: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
) -> bool {
    let (usage, parsed) = (KeyUsage::server_auth(), EndEntityCert::try_from(certificate));
    parsed.is_ok_and(|parsed| {
        parsed.verify_for_usage(algorithms(), roots, intermediates, now, usage, None, Some(check)).is_ok()
    })
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
