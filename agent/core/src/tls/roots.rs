//! The machine's certificate authorities. They are read before the first connection with TLS, since they take a few hundred kB; again by
//! SIGHUP; and when a certificate was not trusted, since its authority may have been installed since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::{Error, RootCertStore};

use super::provider;

/// How often they are read again for certificates that are not trusted.
const PAUSE: Duration = Duration::from_secs(60);

/// The machine's.
pub(super) static MACHINE: Roots = Roots::new(load);

/// Authorities, as they were read last.
#[derive(Debug)]
pub(super) struct Roots {
    load: fn() -> RootCertStore,
    kept: Mutex<Option<Arc<WebPkiServerVerifier>>>,
    /// When they were read again last.
    tried: Mutex<Option<Instant>>,
}

fn load() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

impl Roots {
    pub(super) const fn new(load: fn() -> RootCertStore) -> Self {
        Self { load, kept: Mutex::new(None), tried: Mutex::new(None) }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Arc<WebPkiServerVerifier>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_read(&self) -> bool {
        self.kept().is_some()
    }

    /// What verifies with them. Blocks if they have not been read.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn get(&self) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut kept = self.kept();
        match &*kept {
            Some(verifier) => Ok(Arc::clone(verifier)),
            None => Ok(Arc::clone(kept.insert(self.read()?))),
        }
    }

    fn read(&self) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new((self.load)()), provider()).build();
        verifier.map_err(|error| Error::General(error.to_string()))
    }

    /// Reads them again, if they were read. Blocks.
    pub(super) fn read_again(&self, now: Instant) {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if self.is_read()
            && let Ok(verifier) = self.read()
        {
            self.kept().replace(verifier);
        }
    }

    /// A certificate was not trusted: has them read again for the next connection, once in [`PAUSE`], on a thread of its own.
    pub(super) fn suspect(&'static self, now: Instant) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.is_some_and(|tried| now.saturating_duration_since(tried) < PAUSE) {
            return;
        }
        *tried = Some(now);
        drop(tried);
        let thread = std::thread::Builder::new().name("authorities".to_owned()).stack_size(crate::WORKER_STACK_BYTES);
        // Without a thread, the next failure tries again after the pause.
        thread.spawn(move || self.read_again(now)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock;

    #[test]
    fn authorities_are_read_at_the_first_use_and_after_failures_at_most_once_a_minute() {
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        fn counted() -> RootCertStore {
            LOADS.fetch_add(1, Ordering::SeqCst);
            RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
        }
        static ROOTS: Roots = Roots::new(counted);
        let start = clock::instant();
        ROOTS.read_again(start);
        assert!(!ROOTS.is_read() && LOADS.load(Ordering::SeqCst) == 0, "nothing needed them yet");
        let first = ROOTS.get().unwrap();
        assert!(ROOTS.is_read() && Arc::ptr_eq(&first, &ROOTS.get().unwrap()));
        ROOTS.suspect(start + Duration::from_secs(59));
        assert_eq!(LOADS.load(Ordering::SeqCst), 1);
        for second in [60, 61, 119] {
            ROOTS.suspect(start + Duration::from_secs(second));
        }
        while Arc::ptr_eq(&first, &ROOTS.get().unwrap()) {
            std::thread::yield_now();
        }
        assert_eq!(LOADS.load(Ordering::SeqCst), 2);
        ROOTS.read_again(start);
        assert_eq!(LOADS.load(Ordering::SeqCst), 3, "by SIGHUP at any time");
    }
}
