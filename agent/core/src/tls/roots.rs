//! The machine's certificate authorities. They are read before the first connection with TLS, since they take a few hundred kB; again by
//! SIGHUP; and when a certificate was not trusted, since its authority may have been installed since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::Error;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::anchors::Anchors;
use super::places::{Nothing, Places, Unread};
use crate::clock;

/// How often they are read again for certificates that are not trusted.
const PAUSE: Duration = Duration::from_secs(60);

/// The machine's.
pub(super) static MACHINE: Roots = Roots::new(|| Places::of_machine().read());

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) anchors: Anchors,
    /// What should have been read, too.
    pub(super) unread: Vec<Unread>,
}

/// Authorities, as they were read last.
#[derive(Debug)]
pub(super) struct Roots {
    load: fn() -> Result<Read, Nothing>,
    kept: Mutex<Option<Arc<Read>>>,
    /// Held while they are read.
    reading: Mutex<()>,
    /// When they were read again last.
    tried: Mutex<Option<Instant>>,
    /// How often what was read has been replaced.
    times_replaced: AtomicU64,
}

impl Roots {
    pub(super) const fn new(load: fn() -> Result<Read, Nothing>) -> Self {
        Self {
            load,
            kept: Mutex::new(None),
            reading: Mutex::new(()),
            tried: Mutex::new(None),
            times_replaced: AtomicU64::new(0),
        }
    }

    /// Never held for long: a handshake waits for it.
    fn kept(&self) -> MutexGuard<'_, Option<Arc<Read>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_read(&self) -> bool {
        self.kept().is_some()
    }

    /// Reads them, unless they were read. Blocks.
    ///
    /// # Errors
    /// There is none; the text says why.
    pub(super) fn make_ready(&self) -> Result<(), String> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_read() {
            let read = (self.load)().map_err(|nothing| nothing.why)?;
            self.kept().replace(Arc::new(read));
        }
        Ok(())
    }

    /// Verifies a server's certificate with those that were read last.
    ///
    /// # Errors
    /// Why it is not trusted; they are then read again for the next connection.
    pub(super) fn verify(
        &'static self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let kept = self.kept().clone();
        // `ready` was not waited for, or has failed.
        let kept = kept.ok_or_else(|| Error::General("the certificate authorities were not read".to_owned()))?;
        let result = kept.anchors.verify(certificate, intermediates, name, now);
        if matches!(result, Err(Error::InvalidCertificate(_))) {
            self.suspect(clock::instant());
        }
        result
    }

    /// What should have been read, too, and why it was not.
    pub(super) fn unread(&self) -> Option<String> {
        Some(self.kept().as_ref()?.unread.first()?.to_string())
    }

    /// Reads them again, if they were read. Blocks.
    pub(super) fn read_again(&self, now: Instant) {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if !self.is_read() {
            return;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let read = (self.load)();
        let mut kept = self.kept();
        // What a file system that hangs has had is not gone.
        let had = |unread: &Unread| {
            kept.as_ref().is_some_and(|kept| !kept.unread.iter().any(|known| known.path == unread.path))
        };
        *kept = match read {
            Ok(read) if read.unread.iter().any(|unread| unread.hangs && had(unread)) => return,
            Err(nothing) if nothing.hangs => return,
            Ok(read) => Some(Arc::new(read)),
            // The next connection tries again, and says why it fails.
            Err(_) => None,
        };
        // After it: who sees the new number verifies by the new ones.
        self.times_replaced.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn times_read_again(&self) -> u64 {
        self.times_replaced.load(Ordering::SeqCst)
    }

    /// A certificate was not trusted: has them read again for the next connection, once in [`PAUSE`], on a thread of its own.
    fn suspect(&'static self, now: Instant) {
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
    use std::path::PathBuf;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn kept(roots: &Roots) -> Arc<Read> {
        Arc::clone(roots.kept().as_ref().unwrap())
    }

    #[test]
    fn authorities_are_read_at_the_first_use_and_after_failures_at_most_once_a_minute() {
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        fn counted() -> Result<Read, Nothing> {
            LOADS.fetch_add(1, Ordering::SeqCst);
            Ok(Read { anchors: Anchors::of_roots(webpki_roots::TLS_SERVER_ROOTS), unread: Vec::new() })
        }
        static ROOTS: Roots = Roots::new(counted);
        let start = clock::instant();
        ROOTS.read_again(start);
        assert!(!ROOTS.is_read() && LOADS.load(Ordering::SeqCst) == 0, "nothing needed them yet");
        ROOTS.make_ready().unwrap();
        ROOTS.make_ready().unwrap();
        let first = kept(&ROOTS);
        ROOTS.suspect(start + Duration::from_secs(59));
        assert_eq!(LOADS.load(Ordering::SeqCst), 1);
        for second in [60, 61, 119] {
            ROOTS.suspect(start + Duration::from_secs(second));
        }
        while Arc::ptr_eq(&first, &kept(&ROOTS)) {
            std::thread::yield_now();
        }
        assert_eq!(LOADS.load(Ordering::SeqCst), 2);
        ROOTS.read_again(start);
        assert_eq!(LOADS.load(Ordering::SeqCst), 3, "by SIGHUP at any time");
    }

    #[test]
    fn what_a_file_system_that_hangs_has_had_stays_and_what_cannot_be_read_otherwise_does_not() {
        static UNREAD: Mutex<Vec<(&str, bool)>> = Mutex::new(Vec::new());
        fn load() -> Result<Read, Nothing> {
            let unread = UNREAD.lock().unwrap().clone();
            let unread = unread.into_iter().map(|(path, hangs)| Unread::new(PathBuf::from(path), None, "x", hangs));
            Ok(Read { anchors: Anchors::new(), unread: unread.collect() })
        }
        static ROOTS: Roots = Roots::new(load);
        let now = clock::instant();
        ROOTS.make_ready().unwrap();
        let is_replaced = |unread: &[(&'static str, bool)]| {
            let (before, number) = (kept(&ROOTS), ROOTS.times_read_again());
            *UNREAD.lock().unwrap() = unread.to_vec();
            ROOTS.read_again(now);
            let is_replaced = !Arc::ptr_eq(&before, &kept(&ROOTS));
            assert_eq!(is_replaced, ROOTS.times_read_again() != number, "connections outlive their authorities");
            is_replaced
        };
        assert!(!is_replaced(&[("/hangs", true)]));
        assert!(is_replaced(&[("/broken", false)]));
        assert!(is_replaced(&[("/broken", true)]), "there was nothing of it");
        assert!(!is_replaced(&[("/broken", true), ("/hangs", true)]));
        assert!(is_replaced(&[]));
    }

    #[test]
    fn authorities_that_could_not_be_read_are_read_when_they_can_be_and_gone_when_all_were_removed() {
        static ARE_THERE: Mutex<bool> = Mutex::new(false);
        static HANGS: Mutex<bool> = Mutex::new(false);
        static ROOTS: Roots = Roots::new(|| match *ARE_THERE.lock().unwrap() {
            true => Ok(Read { anchors: Anchors::new(), unread: Vec::new() }),
            false => Err(Nothing { why: "why".to_owned(), hangs: *HANGS.lock().unwrap() }),
        });
        assert_eq!(ROOTS.make_ready(), Err("why".to_owned()));
        assert!(!ROOTS.is_read());
        *ARE_THERE.lock().unwrap() = true;
        assert_eq!(ROOTS.make_ready(), Ok(()));
        *ARE_THERE.lock().unwrap() = false;
        for (hangs, stay) in [(true, true), (false, false)] {
            let number = ROOTS.times_read_again();
            *HANGS.lock().unwrap() = hangs;
            ROOTS.read_again(clock::instant());
            assert_eq!((ROOTS.is_read(), ROOTS.times_read_again() == number), (stay, stay), "hangs: {hangs}");
        }
    }
}
