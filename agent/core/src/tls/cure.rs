//! What an error of TLS says, and what to do about it.

use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};

use super::Trust;
use super::anchors::of_webpki;
use super::roots::MACHINE;
use super::verifier::ShortKey;
use crate::text::lasting;

/// `text`, with what to do about `error` if it is one of TLS, and in plain words where it holds the library's dump.
#[must_use]
pub fn with_cure(text: String, error: &(dyn std::error::Error + 'static), trust: &Trust) -> String {
    let Some(error) = error_of(error) else { return text };
    let text = match said(error) {
        Some(said) => text.replace(&error.to_string(), &said),
        None => text,
    };
    match cure(error, trust) {
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

/// Whether the peer's certificate would be believed if its authority were named.
#[must_use]
pub fn lacks_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}

/// The error in plain words; `None` if those of the library are.
fn said(error: &Error) -> Option<String> {
    let Error::InvalidCertificate(wrong) = error else { return None };
    let what = match wrong {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("it expired {} ago", between(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("it is not valid yet, but in {}", between(*time, *not_before))
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            format!("it or its authority is signed with {}, which is not supported", name_of(signature_algorithm_id))
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { public_key_algorithm_id, .. } => {
            format!("its authority has {}, which is not supported", name_of(public_key_algorithm_id))
        }
        CertificateError::Other(other) if other.0.is::<ShortKey>() => ShortKey.to_string(),
        CertificateError::Other(_) => match of_webpki(error)? {
            webpki::Error::UnsupportedCertVersion => {
                "it is of X.509 version 1, which is supported only if it or the authority that has signed it is trusted itself"
                    .to_owned()
            }
            webpki::Error::CaUsedAsEndEntity => {
                "it is also that of an authority, which is supported only if it or the authority that has signed it is trusted \
                 itself"
                    .to_owned()
            }
            webpki::Error::UnsupportedCriticalExtension => "it has a critical extension that is not supported".to_owned(),
            _ => return None,
        },
        _ => return None,
    };
    Some(format!("invalid peer certificate: {what}"))
}

fn between(one: UnixTime, other: UnixTime) -> String {
    lasting(Duration::from_secs(other.as_secs().saturating_sub(one.as_secs())))
}

/// What to do about an error that a connection with this trust had; `None` if the error says enough.
fn cure(error: &Error, trust: &Trust) -> Option<String> {
    const KEYS: &str = "an RSA key of 2048 bits or more, an ECDSA key of P-256 or P-384, or an Ed25519 key";
    let wrong = match error {
        Error::InvalidCertificate(wrong) => wrong,
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            return Some("enable TLS 1.2 or 1.3 on the server".to_owned());
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            return Some(format!(
                "either it requires a client certificate, or it needs {KEYS}, and for TLS 1.2 a cipher suite of ECDHE with AES-GCM or \
                 ChaCha20"
            ));
        }
        _ => return None,
    };
    Some(match (wrong, &trust.authority) {
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, None) => {
            // One that was not read may have it.
            let install = || {
                "let the server send its whole chain; install its authority into /etc/ssl/certs, or set SSL_CERT_FILE; it must be \
                 valid today and `CA:TRUE`"
                    .to_owned()
            };
            MACHINE.unread().unwrap_or_else(install)
        }
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Some(file)) => {
            format!(
                "`{}` has neither its authority nor the certificate itself, or the server does not send its whole chain; an authority \
                 must be valid today and `CA:TRUE`",
                file.display()
            )
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => "renew it on the server".to_owned(),
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "check this machine's clock".to_owned()
        }
        (CertificateError::NotValidForNameContext { expected, .. }, _) => {
            let name = match expected {
                ServerName::IpAddress(_) => format!("IP:{}", expected.to_str()),
                _ => format!("DNS:{}", expected.to_str()),
            };
            format!("use a name that it has, or make one with `subjectAltName={name}` ({OPENSSL})")
        }
        (CertificateError::InvalidPurpose, _) => format!("make one with `keyUsage=digitalSignature` ({OPENSSL})"),
        (CertificateError::InvalidPurposeContext { .. }, _) => {
            format!("make one with `extendedKeyUsage=serverAuth` ({OPENSSL})")
        }
        (
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            _,
        ) => format!("make both with {KEYS}, and sign with SHA-256 (`openssl x509 -req -sha256`)"),
        (CertificateError::Other(other), _) if other.0.is::<ShortKey>() => {
            format!("make one with {KEYS} (`openssl req -newkey rsa:2048`)")
        }
        (CertificateError::Other(_), _) => match of_webpki(error)? {
            webpki::Error::UnsupportedCertVersion | webpki::Error::CaUsedAsEndEntity => {
                format!("make one with `subjectAltName=DNS:` and its name, and `basicConstraints=CA:FALSE` ({OPENSSL})")
            }
            webpki::Error::UnsupportedCriticalExtension => "make one without that extension".to_owned(),
            _ => return None,
        },
        _ => return None,
    })
}

/// Where an extension of a certificate is written.
const OPENSSL: &str = "with openssl: `req -x509 -addext`, or a line in the file of `x509 -req -extfile`";

/// The usual name of an algorithm or a kind of key, by its identifier.
fn name_of(identifier: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 10] = [
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], "ECDSA and SHA-1"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1], "ECDSA and SHA-224"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], "ECDSA and SHA-512"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], "RSA and MD5"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "RSA and SHA-1"),
        (&[0x2b, 0x65, 0x71], "Ed448"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4], "DSA"),
        (&[0x2b, 0x81, 4, 0, 0x23], "a key of P-521"),
        (&[0x2b, 0x81, 4, 0, 0x0a], "a key of secp256k1"),
        (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1], "a key of Brainpool"),
    ];
    let has = |known: &[u8]| identifier.windows(known.len()).any(|part| part == known);
    KNOWN.iter().find(|(known, _)| has(known)).map_or("an algorithm or key of an unknown kind", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use rustls::OtherError;

    use super::*;

    fn text(error: impl Into<Error>, trust: &Trust) -> String {
        let error = error.into();
        with_cure(format!("web: {error}"), &error, trust)
    }

    #[test]
    fn a_failure_says_what_to_do_about_it() {
        let machine = Trust::default();
        let unknown = text(CertificateError::UnknownIssuer, &machine);
        assert!(unknown.contains("; install its authority into /etc/ssl/certs, or set SSL_CERT_FILE; "), "{unknown}");
        let named = Trust { authority: Some("/ca.pem".into()), ..Trust::default() };
        let unknown = text(CertificateError::UnknownIssuer, &named);
        assert!(unknown.contains("; `/ca.pem` has neither its authority nor the certificate itself, or"), "{unknown}");
        assert!(text(CertificateError::Expired, &machine).ends_with("; renew it on the server"));
        assert!(text(CertificateError::NotValidYet, &named).ends_with("; check this machine's clock"));
        assert_eq!(text(Error::DecryptError, &machine), format!("web: {}", Error::DecryptError));
        let wrapped = std::io::Error::other(std::io::Error::other(Error::DecryptError));
        assert_eq!(error_of(&wrapped), Some(&Error::DecryptError));
        assert_eq!(error_of(&std::io::Error::other("certificate")), None);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_in_words_with_how_to_make_another() {
        let of_webpki = |error: webpki::Error| CertificateError::Other(OtherError(std::sync::Arc::new(error)));
        let name = |name: &str| ServerName::try_from(name.to_owned()).unwrap();
        let of_name =
            |own: &str| CertificateError::NotValidForNameContext { expected: name(own), presented: Vec::new() };
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let sha512 = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
            supported_algorithms: vec![],
        };
        let p521 = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            public_key_algorithm_id: vec![6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x23],
        };
        for (error, what, cure) in [
            (of_name("db.lab"), "not valid for name \"db.lab\"", "`subjectAltName=DNS:db.lab`"),
            (of_name("10.0.0.1"), "not valid for name \"10.0.0.1\"", "`subjectAltName=IP:10.0.0.1`"),
            (of_webpki(webpki::Error::UnsupportedCertVersion), "it is of X.509 version 1", "-extfile"),
            (of_webpki(webpki::Error::CaUsedAsEndEntity), "also that of an authority", "`basicConstraints=CA:FALSE`"),
            (of_webpki(webpki::Error::UnsupportedCriticalExtension), "a critical extension", "make one without"),
            (sha512, "signed with ECDSA and SHA-512, which is not supported", "`openssl x509 -req -sha256`"),
            (p521, "its authority has a key of P-521, which is not supported", "ECDSA key of P-256 or P-384"),
            (ShortKey.into(), "fewer than 2048 bits", "openssl req -newkey rsa:2048"),
            (
                CertificateError::ExpiredContext { time: time(90_000), not_after: time(3_600) },
                "it expired 1 d ago",
                "renew it on the server",
            ),
        ] {
            let text = text(error, &Trust::default());
            let (said, todo) = text.split_once("; ").unwrap();
            assert!(said.contains(what) && said.contains("invalid peer certificate: "), "{text}");
            assert!(todo.contains(cure) || text.contains(cure), "{text}");
            assert!(!text.contains("Other(") && !text.contains('['), "{text}");
        }
    }

    #[test]
    fn what_a_server_may_need_is_said_of_an_alert_that_does_not() {
        let text = |alert| text(Error::AlertReceived(alert), &Trust::default());
        assert!(text(AlertDescription::ProtocolVersion).ends_with("; enable TLS 1.2 or 1.3 on the server"));
        let failure = text(AlertDescription::HandshakeFailure);
        assert!(failure.contains("client certificate") && failure.contains("P-256 or P-384"), "{failure}");
    }
}
