//! The TLS of connections with one trust, whose files are read again when they have changed.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, InconsistentKeys};

use super::anchors::Anchors;
use super::pem::{self, Pem};
use super::places::LONGEST_FILE_BYTES;
use super::verifier::{Believed, Seen, Verifier};
use super::{Trust, Verification, builder, provider, ready};
use crate::paths::{Opened, named, patient};

/// Reads the files of `trust` once. Blocks, but not longer than [`patient::LOOK`] for a folder whose file system does not answer.
///
/// # Errors
/// Each file that cannot be read or has other content; the text names it.
pub fn check(trust: &Trust) -> Result<(), Vec<String>> {
    Kept::read(trust, None).map(drop)
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
        config.dangerous().set_certificate_verifier(Arc::new(Verifier { seen: Some(seen.clone()), ..verifier }));
        Ok(config)
    }

    async fn kept(&self) -> Result<Kept, String> {
        if self.0.trust.needs_machine() {
            ready().await?;
        }
        if self.0.trust.files().next().is_none() {
            return self.0.read();
        }
        let shared = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || shared.read());
        read.await.unwrap_or_else(|_| Err("the agent crashed; this is a bug in wasaba".to_owned()))
    }
}

impl Shared {
    fn read(&self) -> Result<Kept, String> {
        let before = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kept = Kept::read(&self.trust, before).map_err(|problems| problems.join("; "))?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).replace(kept.clone());
        Ok(kept)
    }
}

/// What a file contains.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Authorities,
    Certificate,
    Key,
}

/// The content of a file.
enum Content {
    Authorities(Anchors),
    Certificates(Vec<CertificateDer<'static>>),
    Key(PrivateKeyDer<'static>),
}

impl Part {
    /// Opens a file, whose file system may never answer.
    fn open(self, file: &Path) -> Result<Opened, String> {
        self.patiently(file, move |file| named::open(file).map_err(|error| self.unusable(file, &error)))
    }

    /// The only way to a file: the answer to a question about it, unless its file system takes too long.
    fn patiently<T: Send + 'static>(
        self,
        file: &Path,
        question: impl FnOnce(&Path) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let answer = patient::ask(file, patient::LOOK, question);
        answer.map_err(|error| self.unusable(file, &error)).flatten()
    }

    fn read(self, file: &Path, opened: Opened) -> Result<Content, String> {
        self.patiently(file, move |file| self.content(file, opened))
    }

    fn content(self, file: &Path, opened: Opened) -> Result<Content, String> {
        let bytes = opened.read(LONGEST_FILE_BYTES).map_err(|error| self.unusable(file, &error))?;
        match self {
            Self::Authorities => self.authorities(file, &bytes).map(Content::Authorities),
            Self::Certificate => {
                let found = self.certificates(file, &bytes)?;
                Ok(Content::Certificates(found.into_iter().map(|found| found.certificate).collect()))
            }
            Self::Key if is_encrypted(&bytes) => {
                let file = file.display();
                Err(format!(
                    "the private key in `{file}` is encrypted, and no one can be asked for its password: write it without one (`openssl \
                     pkey -in {file} -out NEW`, readable by the agent alone), and name that as `key`"
                ))
            }
            Self::Key => {
                PrivateKeyDer::from_pem_slice(&bytes).map(Content::Key).map_err(|error| self.unusable(file, &error))
            }
        }
    }

    fn authorities(self, file: &Path, bytes: &[u8]) -> Result<Anchors, String> {
        let mut anchors = Anchors::new();
        let found = self.certificates(file, bytes)?;
        // A file may have those for mail, too.
        for found in found.into_iter().filter(|found| found.is_for_servers) {
            anchors.add(found.certificate).map_err(|error| self.unusable(file, &error))?;
        }
        if anchors.is_empty() {
            return Err(self.unusable(file, &"what it contains is trusted for other purposes than servers"));
        }
        Ok(anchors)
    }

    /// At least one.
    fn certificates(self, file: &Path, bytes: &[u8]) -> Result<Vec<Pem>, String> {
        match pem::certificates(bytes).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => Err(self.unusable(file, &"it contains none")),
            certificates => certificates.map_err(|error| self.unusable(file, &error)),
        }
    }

    fn unusable(self, file: &Path, why: &dyn fmt::Display) -> String {
        let (what, key) = match self {
            Self::Authorities => ("a certificate authority", "authority"),
            Self::Certificate => ("a certificate", "certificate"),
            Self::Key => ("a private key", "key"),
        };
        let cure = format!("repair it, or name another as `{key}`");
        format!("cannot read {what} in PEM form from `{}`: {why}; {cure}", file.display())
    }
}

impl Kept {
    /// What the files of `trust` say; `before`, if they are the same.
    ///
    /// # Errors
    /// What is wrong with each file.
    fn read(trust: &Trust, before: Option<Self>) -> Result<Self, Vec<String>> {
        let opened = trust.files().map(|(part, file)| part.open(file)).collect::<Vec<_>>();
        let stamps = opened.iter().flatten().map(stamp).collect::<Vec<_>>();
        if let Some(before) = before.filter(|before| opened.iter().all(Result::is_ok) && before.stamps == stamps) {
            return Ok(before);
        }
        let (mut believed, mut chain, mut key, mut problems) = (trust.believed_without_file(), None, None, Vec::new());
        for ((part, file), opened) in trust.files().zip(opened) {
            match opened.and_then(|opened| part.read(file, opened)) {
                Ok(Content::Authorities(anchors)) => believed = Believed::Named(Arc::new(anchors)),
                Ok(Content::Certificates(certificates)) => chain = Some(certificates),
                Ok(Content::Key(found)) => key = Some(found),
                Err(why) => problems.push(why),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let verifier = Verifier { believed, any_name: trust.verification != Verification::Full, seen: None };
        let builder = builder().map_err(|error| vec![error.to_string()])?.dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier.clone()));
        let mut config = match (&trust.identity, chain.zip(key)) {
            (Some(files), Some((chain, key))) => {
                let pair = pair(chain, key).map_err(|error| vec![of_pair(files, &error)])?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            _ => builder.with_no_client_auth(),
        };
        if trust.needs_machine() {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { stamps, config: Arc::new(config), verifier })
    }
}

/// Whether a file has a private key that only a password opens: of PKCS #8, or of OpenSSL's old form.
fn is_encrypted(pem: &[u8]) -> bool {
    let mut lines = pem.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.any(|line| line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----" || line.starts_with(b"Proc-Type: 4,ENCRYPTED"))
}

/// A certificate with the others of its chain, and its key. It may be of X.509 version 1, which rustls cannot read: it is the server that
/// reads it.
fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    let pair = CertifiedKey::new(chain, provider().key_provider.load_private_key(key)?);
    match pair.keys_match() {
        Err(error @ Error::InvalidCertificate(_)) => {
            let public = pair.key.public_key().ok_or(error)?;
            // The public key is a part of the certificate.
            let is_own = pair.end_entity_cert()?.windows(public.len()).any(|part| part == public.as_ref());
            if is_own { Ok(pair) } else { Err(InconsistentKeys::KeyMismatch.into()) }
        }
        // As rustls itself: some keys do not say what their public one is.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(error) => Err(error),
    }
}

/// Why a certificate and its key cannot be used together.
fn of_pair((certificate, key): &(PathBuf, PathBuf), error: &Error) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    match error {
        Error::InconsistentKeys(_) => {
            format!(
                "the private key in `{key}` is not that of the certificate in `{certificate}`: name two files that belong together"
            )
        }
        error => format!(
            "cannot use the certificate in `{certificate}` with the private key in `{key}`: {error}; name others"
        ),
    }
}
