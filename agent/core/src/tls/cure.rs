//! What to do about an error of TLS.

use rustls::{CertificateError, Error};

use super::Trust;
use super::roots::MACHINE;

/// What to do about an error of TLS that a connection with this trust had; `None` if the error says enough.
fn cure(error: &Error, trust: &Trust) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return None };
    match (error, &trust.authority) {
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, None) => {
            // One that was not read may have it.
            let install = || "install its authority into /etc/ssl/certs, or set SSL_CERT_FILE".to_owned();
            Some(MACHINE.unread().unwrap_or_else(install))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do_about_it() {
        let machine = Trust::default();
        let cure = |error: CertificateError, trust: &Trust| cure(&error.into(), trust).unwrap_or_default();
        assert!(cure(CertificateError::UnknownIssuer, &machine).contains("/etc/ssl/certs, or set SSL_CERT_FILE"));
        let named = Trust { authority: Some("/ca.pem".into()), ..Trust::default() };
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
