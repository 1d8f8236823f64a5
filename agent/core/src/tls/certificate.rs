//! A certificate, as far as webpki refuses it though OpenSSL and curl do not: one of X.509's version 1, one that is also an authority's, and
//! one whose only name is its subject's common name.

use std::net::IpAddr;
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::{ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::RawPublicKeyEntity;

use super::der::{
    BIT_STRING, BOOLEAN, Element, Elements, GENERALIZED_TIME, IDENTIFIER, INTEGER, OCTET_STRING, SEQUENCE, SET,
    UTC_TIME, optional,
};
use super::pem::has_servers;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const NAMES: &[u8] = &[0x55, 0x1d, 17];
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const USES: &[u8] = &[0x55, 0x1d, 15];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const PURPOSES: &[u8] = &[0x55, 0x1d, 37];

/// The bits of what a key may be used for: to sign a handshake, to be encrypted or agreed with.
const SERVER_USES: u8 = 0x80 | 0x20 | 0x08;
/// To sign certificates.
const SIGNS_CERTIFICATES: u8 = 0x04;

/// rsaEncryption
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// What a certificate says. Lists are without their tags.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// Version 3, which has extensions.
    is_modern: bool,
    /// What its authority has signed.
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    pub(super) issuer: &'a [u8],
    from: UnixTime,
    until: UnixTime,
    pub(super) subject: &'a [u8],
    /// Its public key, with its tag.
    key: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads it (RFC 5280, 4.1). `None` if it is not a certificate.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut certificate = Elements(Elements(bytes).tagged(SEQUENCE)?);
        let signed = certificate.next().filter(|element| element.tag == SEQUENCE)?;
        let algorithm = certificate.tagged(SEQUENCE)?;
        // Behind how many bits of the last byte are not used.
        let signature = certificate.tagged(BIT_STRING)?.strip_prefix(&[0])?;
        let mut fields = Elements(signed.content);
        let is_modern =
            fields.tagged(optional(0)).is_some_and(|version| Elements(version).tagged(INTEGER) == Some(&[2]));
        fields.tagged(INTEGER)?;
        fields.tagged(SEQUENCE).filter(|inner| *inner == algorithm)?;
        let issuer = fields.tagged(SEQUENCE)?;
        let mut validity = Elements(fields.tagged(SEQUENCE)?);
        let (from, until) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = fields.tagged(SEQUENCE)?;
        let key = fields.next().filter(|element| element.tag == SEQUENCE)?.whole;
        let extensions = fields.find(|field| field.tag == optional(3)).map(|field| field.content);
        let extensions = extensions.and_then(|content| Elements(content).tagged(SEQUENCE)).unwrap_or_default();
        Some(Self {
            is_modern,
            signed: signed.whole,
            algorithm,
            signature,
            issuer,
            from,
            until,
            subject,
            key,
            extensions,
        })
    }

    /// The content of an extension.
    fn extension(&self, identifier: &[u8]) -> Option<&'a [u8]> {
        Elements(self.extensions).find_map(|extension| {
            let mut parts = Elements(extension.content);
            parts.tagged(IDENTIFIER).filter(|found| *found == identifier)?;
            parts.find(|part| part.tag == OCTET_STRING).map(|part| part.content)
        })
    }

    /// From when until when it is valid.
    pub(super) fn dates(&self) -> (UnixTime, UnixTime) {
        (self.from, self.until)
    }

    /// # Errors
    /// It has expired, or is not valid yet.
    pub(super) fn check_dates(&self, now: UnixTime) -> Result<(), CertificateError> {
        let (from, until) = (self.from, self.until);
        if now < from {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: from });
        }
        if now > until {
            return Err(CertificateError::ExpiredContext { time: now, not_after: until });
        }
        Ok(())
    }

    /// Whether it may be a server's, or an authority's of servers.
    pub(super) fn is_for_servers(&self) -> bool {
        let purposes = self.extension(PURPOSES);
        purposes.is_none_or(|purposes| Elements(purposes).tagged(SEQUENCE).is_some_and(has_servers))
    }

    /// Whether its key may be used as it says; without a word of it, for everything.
    fn may(&self, uses: u8) -> bool {
        let bits = |content| Elements(content).tagged(BIT_STRING)?.get(1).copied();
        self.extension(USES).is_none_or(|content| bits(content).unwrap_or_default() & uses != 0)
    }

    /// Whether its key may be that of a server.
    pub(super) fn may_serve(&self) -> bool {
        self.may(SERVER_USES)
    }

    /// Whether it may sign those of servers, and if so how many authorities may be between: a number, if it is limited. As OpenSSL and Go
    /// have it: one of version 3 must say that it is an authority's, an older one must be its own authority.
    pub(super) fn signs(&self) -> Option<Option<usize>> {
        let constraints = self.extension(CONSTRAINTS).and_then(|content| Elements(content).tagged(SEQUENCE));
        let mut constraints = Elements(constraints.unwrap_or_default());
        let is_authority = constraints.tagged(BOOLEAN).is_some_and(|is| is != [0]);
        let is_authority = if self.is_modern { is_authority } else { self.subject == self.issuer };
        let limit = constraints.tagged(INTEGER).map(|number| match number {
            [number] => usize::from(*number),
            _ => usize::MAX,
        });
        (is_authority && self.may(SIGNS_CERTIFICATES) && self.is_for_servers()).then_some(limit)
    }

    /// Whether this authority has signed it, and may do so for any name.
    pub(super) fn is_signed_by(
        &self,
        anchor: &TrustAnchor<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        if *anchor.subject != *self.issuer || anchor.name_constraints.is_some() {
            return false;
        }
        let key = webpki::spki_for_anchor(anchor);
        let mut fitting = algorithms.iter().filter(|known| *known.signature_alg_id() == *self.algorithm);
        fitting.any(|algorithm| has_signed(&key, *algorithm, self.signed, self.signature))
    }

    /// Its public key.
    pub(super) fn key(&self) -> SubjectPublicKeyInfoDer<'a> {
        SubjectPublicKeyInfoDer::from(self.key)
    }

    /// Whether its key is one of RSA that has fewer than 2048 bits.
    pub(super) fn has_short_key(&self) -> bool {
        let mut parts = Elements(Elements(self.key).tagged(SEQUENCE).unwrap_or_default());
        let mut algorithm = Elements(parts.tagged(SEQUENCE).unwrap_or_default());
        // The number that has them is most of the key.
        algorithm.tagged(IDENTIFIER) == Some(RSA) && parts.tagged(BIT_STRING).is_some_and(|key| key.len() < 256)
    }

    /// Whether it limits the names in those that it signs.
    pub(super) fn limits_names(&self) -> bool {
        self.extension(NAME_CONSTRAINTS).is_some()
    }

    /// Whether it has the name by its subject's common name, which counts, as for curl, if it has no other name.
    pub(super) fn has_common_name(&self, name: &ServerName<'_>) -> bool {
        if self.extension(NAMES).is_some() {
            return false;
        }
        let attributes = Elements(self.subject).filter(|part| part.tag == SET).flat_map(|part| Elements(part.content));
        let names = attributes.filter_map(|attribute| {
            let mut parts = Elements(attribute.content);
            parts.tagged(IDENTIFIER).filter(|found| *found == COMMON_NAME)?;
            parts.next()
        });
        let text = names.last().and_then(|name| std::str::from_utf8(name.content).ok());
        text.is_some_and(|text| match name {
            ServerName::IpAddress(address) => text.parse::<IpAddr>().is_ok_and(|own| own == IpAddr::from(*address)),
            ServerName::DnsName(name) => is_name(text, name.as_ref()),
            _ => false,
        })
    }
}

/// Whether this key has signed the message.
pub(super) fn has_signed(
    key: &SubjectPublicKeyInfoDer<'_>,
    algorithm: &dyn SignatureVerificationAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    RawPublicKeyEntity::try_from(key).is_ok_and(|key| key.verify_signature(algorithm, message, signature).is_ok())
}

/// Whether `own`, whose first part may be `*`, is `name`.
fn is_name(own: &str, name: &str) -> bool {
    let without_dot = |name: &'_ str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let (own, name) = (without_dot(own), without_dot(name));
    let is_under = |domain: &str| name.split_once('.').is_some_and(|(_, rest)| rest == domain && domain.contains('.'));
    own == name || own.strip_prefix("*.").is_some_and(is_under)
}

/// `240229235959Z` or `20240229235959Z`.
fn time(element: Element<'_>) -> Option<UnixTime> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let digits = match element.tag {
        UTC_TIME => format!("{}{text}", if text < "50" { 20 } else { 19 }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    // Years that begin in March, so that the day of a leap year is the last one.
    let years = if month > 2 { year } else { year - 1 };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_both_forms_and_one_that_is_none_is_not() {
        let read = |tag, text: &str| Some(time(Element { tag, content: text.as_bytes(), whole: &[] })?.as_secs());
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "240229235959Z", 1_709_251_199),
            (UTC_TIME, "991231235959Z", 946_684_799),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(read(tag, text), Some(expected), "{text}");
        }
        for text in [
            "",
            "Z",
            "240229235959",
            "2402292359Z",
            "241329235959Z",
            "240229245959Z",
            "24022923595\u{661}Z",
            "690101000000Z",
        ] {
            assert_eq!(read(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(read(INTEGER, "240229235959Z"), None);
    }

    #[test]
    fn what_is_not_a_certificate_is_not_read_as_one() {
        let authority = wasaba_testing::authority::Authority::new();
        let pem = std::fs::read(authority.file()).unwrap();
        let bytes = crate::tls::pem::certificates(&pem).next().unwrap().unwrap().certificate;
        assert!(Certificate::read(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(Certificate::read(&bytes[..length]).is_none(), "{length} bytes");
        }
    }
}
