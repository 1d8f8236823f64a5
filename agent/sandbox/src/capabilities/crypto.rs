//! `crypto`: computations of log-ins, done natively. They reach nothing outside, so they need no grant; they cost time, so they
//! have a limit.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use ring::{digest, pbkdf2};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::Guest;
use super::bindings::wasaba::plugin::crypto::{self as contract, Error};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

type Key = [u8; digest::SHA256_OUTPUT_LEN];

/// The last key of an instance, with a digest of what it was derived from: the same log-in every minute computes it once. It
/// is only ever in memory, like the password itself.
#[derive(Default)]
pub struct Derived(Mutex<Option<(digest::Digest, Key)>>);

/// What a call may still compute.
pub(super) struct Iterations {
    left: u32,
    limit: u32,
}

impl Iterations {
    pub(super) fn new(limit: u32) -> Self {
        Self { left: limit, limit }
    }

    fn take(&mut self, wanted: u32) -> Result<(), Error> {
        let left = self.left.checked_sub(wanted).ok_or_else(|| {
            Error::TooCostly(format!(
                "{wanted} iterations of PBKDF2 are more than is left of {} in this call (limit `pbkdf2_iterations`)",
                self.limit
            ))
        })?;
        self.left = left;
        Ok(())
    }
}

/// A digest of everything that a key depends on; lengths keep apart what stands side by side.
fn question(password: &[u8], salt: &[u8], iterations: u32) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&iterations.to_le_bytes());
    context.update(&(salt.len() as u64).to_le_bytes());
    context.update(salt);
    context.update(password);
    context.finish()
}

impl Guest {
    async fn derive(&mut self, password: Vec<u8>, salt: Vec<u8>, iterations: u32) -> Result<Key, Error> {
        let rounds = NonZeroU32::new(iterations).filter(|_| !salt.is_empty());
        let rounds = rounds.ok_or_else(|| Error::Invalid("PBKDF2 needs an iteration and a salt".into()))?;
        let question = question(&password, &salt, iterations);
        let last = *self.identity.derived.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = last.filter(|(known, _)| known.as_ref() == question.as_ref()) {
            return Ok(key);
        }
        self.iterations.take(iterations)?;
        let derive = move || {
            let mut key = [0; digest::SHA256_OUTPUT_LEN];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, &password, &mut key);
            key
        };
        // Elsewhere, so that the other plugins need not wait for it.
        let key = self.identity.block(derive).await;
        let key = key.ok_or_else(|| Error::Invalid("it could not be computed".into()))?;
        *self.identity.derived.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((question, key));
        Ok(key)
    }
}

impl contract::Host for Guest {
    async fn pbkdf2_hmac_sha256(
        &mut self,
        password: Vec<u8>,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Result<Result<Vec<u8>, Error>> {
        Ok(self.derive(password, salt, iterations).await.map(Vec::from))
    }

    async fn saslprep(&mut self, text: String) -> Result<Option<String>> {
        Ok(stringprep::saslprep(&text).ok().map(Cow::into_owned))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasaba_core::limits::Limits;

    use super::*;
    use crate::capabilities::Identity;

    fn guest(limit: u32) -> Guest {
        let limits = Limits { pbkdf2_iterations: limit, ..Limits::default() };
        Guest::new(Identity { limits: Arc::new(limits), ..Identity::default() })
    }

    async fn derive(guest: &mut Guest, password: &str, iterations: u32) -> Result<String, Error> {
        let key = guest.derive(password.into(), b"salt".into(), iterations).await?;
        Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    #[tokio::test]
    async fn the_key_is_that_of_the_published_test_vectors() {
        // RFC 7914, section 11; the first 32 bytes of its 64.
        let key = derive(&mut guest(1), "passwd", 1).await;
        assert_eq!(key.unwrap(), "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    }

    #[tokio::test]
    async fn a_call_computes_no_more_than_its_limit_but_is_given_again_what_is_known() {
        let mut guest = guest(10);
        let first = derive(&mut guest, "a", 6).await.unwrap();
        assert_eq!(derive(&mut guest, "a", 6).await, Ok(first.clone()), "it is known");
        let refused = derive(&mut guest, "b", 6).await;
        assert!(matches!(&refused, Err(Error::TooCostly(text)) if text.contains("`pbkdf2_iterations`")), "{refused:?}");
        assert_ne!(derive(&mut guest, "b", 4).await, Ok(first), "another password has another key");
    }

    #[tokio::test]
    async fn a_password_is_prepared_as_the_rfc_has_it() {
        let mut guest = guest(0);
        // RFC 4013, section 3.
        for (text, expected) in
            [("I\u{ad}X", Some("IX")), ("\u{aa}", Some("a")), ("\u{2168}", Some("IX")), ("\u{7}", None)]
        {
            let prepared = contract::Host::saslprep(&mut guest, text.to_owned()).await.unwrap();
            assert_eq!(prepared.as_deref(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_derivation_is_refused() {
        let mut guest = guest(10);
        assert!(matches!(derive(&mut guest, "a", 0).await, Err(Error::Invalid(_))));
        assert!(matches!(guest.derive(b"a".into(), Vec::new(), 1).await, Err(Error::Invalid(_))));
    }
}
