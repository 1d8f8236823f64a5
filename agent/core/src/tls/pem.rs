//! Certificates in PEM form, read as OpenSSL reads them: behind a byte order mark, under each of its three labels, and with the purposes that
//! they are trusted for.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject};

use super::der::{Elements, IDENTIFIER, SEQUENCE, optional};

/// A certificate of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pem {
    pub(super) certificate: CertificateDer<'static>,
    /// Not so if the file says that it is trusted for other purposes only (`openssl x509 -addtrust`).
    pub(super) is_for_servers: bool,
}

/// The certificates in `bytes`.
///
/// # Errors
/// In place of a certificate: it cannot be read.
pub(super) fn certificates(bytes: &[u8]) -> impl Iterator<Item = Result<Pem, Error>> {
    let plain = with_usual_labels(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let found = CertificateDer::pem_slice_iter(&plain).collect::<Vec<_>>();
    found.into_iter().map(|certificate| certificate.map(Pem::of))
}

impl Pem {
    /// What it is trusted for is behind the certificate itself.
    fn of(bytes: CertificateDer<'static>) -> Self {
        let mut elements = Elements(&bytes);
        match elements.next() {
            Some(own) => Self { certificate: own.whole.to_vec().into(), is_for_servers: is_for_servers(elements) },
            None => Self { certificate: bytes, is_for_servers: true },
        }
    }
}

/// `-----BEGIN TRUSTED CERTIFICATE-----` and `-----BEGIN X509 CERTIFICATE-----` without the first word.
fn with_usual_labels(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let parts = [&b"-----BEGIN "[..], b"-----END "].into_iter().find_map(|begin| {
            let rest = line.strip_prefix(begin)?;
            let label = [&b"TRUSTED "[..], b"X509 "].into_iter().find_map(|word| rest.strip_prefix(word))?;
            label.starts_with(b"CERTIFICATE-----").then_some([begin, label])
        });
        plain.extend(parts.map_or_else(|| line.to_vec(), |parts| parts.concat()));
    }
    plain
}

/// 1.3.6.1.5.5.7.3.1, `serverAuth`.
const SERVERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// 2.5.29.37.0, `anyExtendedKeyUsage`.
const ALL: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// Whether a list of purposes has that of a server.
pub(super) fn has_servers(purposes: &[u8]) -> bool {
    Elements(purposes).any(|purpose| purpose.tag == IDENTIFIER && matches!(purpose.content, SERVERS | ALL))
}

/// OpenSSL's `X509_CERT_AUX`: the purposes that a certificate is trusted for, if they are limited, and those that it is not trusted for.
fn is_for_servers(mut behind: Elements<'_>) -> bool {
    let mut lists = Elements(behind.tagged(SEQUENCE).unwrap_or_default());
    let (trusted, distrusted) = (lists.tagged(SEQUENCE), lists.tagged(optional(0)));
    trusted.is_none_or(has_servers) && !distrusted.is_some_and(has_servers)
}

#[cfg(test)]
pub(super) mod tests {
    use wasaba_testing::authority::Authority;

    use super::super::der::sequence;
    use super::*;

    const MAIL: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 4];

    /// A file with this label, of these bytes.
    pub(in crate::tls) fn file(label: &str, bytes: &[u8]) -> Vec<u8> {
        let mut file = format!("-----BEGIN {label}-----\n").into_bytes();
        for (at, three) in bytes.chunks(3).enumerate() {
            let bits = three.iter().chain([&0; 2]).take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let four = [18, 12, 6, 0].map(|shift| letters[(bits >> shift & 63) as usize]);
            file.extend(&four[..=three.len()]);
            file.extend(&b"=="[..3 - three.len()]);
            file.extend(if at % 16 == 15 { &b"\n"[..] } else { b"" });
        }
        [&file[..], format!("\n-----END {label}-----\n").as_bytes()].concat()
    }

    fn list(tag: u8, identifier: &[u8]) -> Vec<u8> {
        let mut list = sequence(&[&[IDENTIFIER, u8::try_from(identifier.len()).unwrap()], identifier].concat());
        list[0] = tag;
        list
    }

    #[test]
    fn a_certificate_is_found_under_each_label_behind_a_byte_order_mark_and_beside_other_text() {
        let certificate = CertificateDer::from_pem_file(Authority::new().file()).unwrap();
        let expected = [Pem { certificate: certificate.clone(), is_for_servers: true }];
        for label in ["CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"] {
            let file = file(label, &certificate);
            let crlf = String::from_utf8(file.clone()).unwrap().replace('\n', "\r\n").into_bytes();
            for file in
                [file.clone(), [b"\xef\xbb\xbf", &file[..]].concat(), [b"# Z\xfcrich\n", &file[..]].concat(), crlf]
            {
                let found = certificates(&file).collect::<Result<Vec<_>, _>>().unwrap();
                assert_eq!(found, expected, "{label}");
            }
        }
        assert_eq!(certificates(&file("TRUSTED PRIVATE KEY", &certificate)).count(), 0);
    }

    #[test]
    fn a_certificate_is_for_servers_unless_the_file_says_otherwise() {
        let certificate = CertificateDer::from_pem_file(Authority::new().file()).unwrap();
        for (lists, expected) in [
            (vec![], true),
            (list(SEQUENCE, SERVERS), true),
            (list(SEQUENCE, ALL), true),
            (list(SEQUENCE, MAIL), false),
            (list(optional(0), MAIL), true),
            (list(optional(0), SERVERS), false),
            ([list(SEQUENCE, SERVERS), list(optional(0), ALL)].concat(), false),
        ] {
            let file = file("TRUSTED CERTIFICATE", &[&certificate[..], &sequence(&lists)].concat());
            let found = certificates(&file).next().unwrap().unwrap();
            assert_eq!(found, Pem { certificate: certificate.clone(), is_for_servers: expected }, "{lists:?}");
        }
    }
}
