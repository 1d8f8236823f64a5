//! A private certificate authority, with its files, for TLS servers and client certificates.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, with a folder for its root certificate and the certificates that it issues.
pub struct Authority {
    /// `None` for a server's own certificate, which `openssl` has made.
    issuer: Option<CertifiedIssuer<'static, KeyPair>>,
    folder: TempDir,
}

/// The PEM files of a certificate and its key.
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        // Servers that run as another user read from it.
        crate::readable_by_all(folder.path());
        Self { issuer: Some(issuer), folder }
    }
}

impl Authority {
    /// A server's own certificate for this name, made as the how-tos of servers make it: it is an authority's, too.
    ///
    /// # Panics
    /// openssl is missing.
    #[must_use]
    pub fn of_server(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |end: &str| folder.path().join(format!("authority.{end}"));
        let mut command = std::process::Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", &format!("/CN={name}")]);
        command.args(["-addext", &format!("subjectAltName=DNS:{name}"), "-keyout"]).arg(file("key"));
        let output = command.arg("-out").arg(file("pem")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        crate::readable_by_all(folder.path());
        crate::readable_by_all(&file("key"));
        Self { issuer: None, folder }
    }

    /// The file with its root certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Issues a certificate for `name`, which is also its common name, and for `others`, names or addresses. A server's own certificate
    /// is itself.
    ///
    /// # Panics
    /// A name is invalid in a certificate.
    #[must_use]
    pub fn issue(&self, name: &str, others: &[&str]) -> Issued {
        let Some(issuer) = &self.issuer else {
            return Issued { certificate: self.file(), key: self.folder.path().join("authority.key") };
        };
        let key = KeyPair::generate().unwrap();
        let names = [&[name], others].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, issuer).unwrap();
        let file = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        let issued = Issued { certificate: file("pem"), key: file("key") };
        write(&issued.certificate, &certificate.pem());
        write(&issued.key, &key.serialize_pem());
        issued
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}
