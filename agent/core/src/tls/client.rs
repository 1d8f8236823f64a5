//! The TLS of connections with one trust, whose files are read again when they have changed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, Error};

use super::anchors::Anchors;
use super::pem::{self, Pem};
use super::places::LONGEST_FILE_BYTES;
use super::roots::MACHINE;
use super::verifier::{Believed, Seen, Verifier};
use super::{Trust, Verification, builder, ready};
use crate::paths::{Opened, named, patient};

/// Reads the files of `trust` once. Blocks.
///
/// # Errors
/// A file cannot be read or has other content; the text names it.
pub fn check(trust: &Trust) -> Result<(), String> {
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

pub(super) const CERTIFICATE: &str = "a certificate";
pub(super) const KEY: &str = "a private key";

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
        let believed = match (trust.verification, authority) {
            (Verification::None, _) => Believed::All,
            (_, Some((file, bytes))) => Believed::Named(Arc::new(named_authorities(file, &bytes)?)),
            (_, None) => Believed::Machine(&MACHINE),
        };
        let verifier = Verifier { believed, any_name: trust.verification != Verification::Full, seen: None };
        let plain = |error: Error| error.to_string();
        let builder = builder().map_err(plain)?.dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier.clone()));
        let mut config = match (&trust.identity, contents.next(), contents.next()) {
            (Some((own, key)), Some(certificate), Some(secret)) => {
                let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| unusable(KEY, key, &error))?;
                let chain = certificates(own, &certificate)?.into_iter().map(|found| found.certificate).collect();
                builder.with_client_auth_cert(chain, secret).map_err(plain)?
            }
            _ => builder.with_no_client_auth(),
        };
        if trust.needs_machine() {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { stamps, config: Arc::new(config), verifier })
    }
}

fn named_authorities(file: &Path, bytes: &[u8]) -> Result<Anchors, String> {
    let mut anchors = Anchors::new();
    let found = certificates(file, bytes)?;
    // A file may have those for mail, too.
    for found in found.into_iter().filter(|found| found.is_for_servers) {
        let added = anchors.add(found.certificate);
        added.map_err(|error| unusable("a certificate authority", file, &error))?;
    }
    if anchors.is_empty() {
        return Err(unusable(CERTIFICATE, file, &"what it contains is trusted for other purposes than servers"));
    }
    Ok(anchors)
}

/// At least one.
fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<Pem>, String> {
    match pem::certificates(bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(unusable(CERTIFICATE, file, &"it contains none")),
        certificates => certificates.map_err(|error| unusable(CERTIFICATE, file, &error)),
    }
}

fn unusable(what: &str, file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("cannot read {what} in PEM form from `{}`: {why}", file.display())
}
