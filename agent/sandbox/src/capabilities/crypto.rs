//! `crypto`: computations that log-ins need, done natively. They reach nothing outside, so they need no grant; they take time,
//! so they have a limit.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use ring::{digest, pbkdf2};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

use super::blocking::Blocking;
use crate::contract::bindings::wasaba::plugin::crypto::{self as contract, Error};
use crate::turn;

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

type Key = [u8; digest::SHA256_OUTPUT_LEN];

/// The last key of an instance, with a digest of its inputs: the same log-in every minute derives it once. It is only ever
/// in memory, like the password itself.
pub(super) struct OfInstance {
    derived: Mutex<Option<(digest::Digest, Key)>>,
    blocking: Blocking,
}

impl OfInstance {
    pub(super) fn new(blocking: Blocking) -> Self {
        Self { derived: Mutex::default(), blocking }
    }
}

/// How many iterations one call has left.
pub(super) struct OfCall {
    left: u32,
    limit: u32,
}

impl OfCall {
    pub(super) fn new(limit: u32) -> Self {
        Self { left: limit, limit }
    }

    fn take(&mut self, iterations: u32) -> Result<(), Error> {
        let left = self.left.checked_sub(iterations).ok_or_else(|| {
            Error::TooCostly(format!(
                "{iterations} PBKDF2 iterations exceed the {} that are left of this call's {} (limit `pbkdf2_iterations`)",
                self.left, self.limit
            ))
        })?;
        self.left = left;
        Ok(())
    }
}

/// All that this capability sees of a call.
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) call: &'a mut OfCall,
}

/// A digest of everything that a key depends on. The lengths keep adjacent inputs apart.
fn inputs(password: &[u8], salt: &[u8], iterations: u32) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&iterations.to_le_bytes());
    context.update(&(salt.len() as u64).to_le_bytes());
    context.update(salt);
    context.update(password);
    context.finish()
}

impl View<'_> {
    async fn derive(&mut self, password: Vec<u8>, salt: Vec<u8>, iterations: u32) -> Result<Key, Error> {
        let rounds = NonZeroU32::new(iterations).filter(|_| !salt.is_empty());
        let rounds = rounds.ok_or_else(|| Error::Invalid("PBKDF2 needs at least one iteration and a salt".into()))?;
        let inputs = inputs(&password, &salt, iterations);
        let last = *self.instance.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = last.filter(|(known, _)| known.as_ref() == inputs.as_ref()) {
            return Ok(key);
        }
        self.call.take(iterations)?;
        let derive = move || {
            let mut key = [0; digest::SHA256_OUTPUT_LEN];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, &password, &mut key);
            key
        };
        // On another thread, so that it does not delay the other plugins.
        let key = self.instance.blocking.run(|| turn::timed(derive)).await;
        let (key, computed) =
            key.ok_or_else(|| Error::Invalid("the agent crashed while deriving it; this is a bug in wasaba".into()))?;
        turn::charge(computed);
        *self.instance.derived.lock().unwrap_or_else(PoisonError::into_inner) = Some((inputs, key));
        Ok(key)
    }
}

impl contract::Host for View<'_> {
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
    use super::contract::Host;
    use super::*;

    fn state(limit: u32) -> (OfInstance, OfCall) {
        (OfInstance::new(Blocking::default()), OfCall::new(limit))
    }

    fn view((instance, call): &mut (OfInstance, OfCall)) -> View<'_> {
        View { instance, call }
    }

    async fn derive(mut view: View<'_>, password: &str, iterations: u32) -> Result<String, Error> {
        let key = view.pbkdf2_hmac_sha256(password.into(), b"salt".into(), iterations).await.unwrap()?;
        Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    #[tokio::test]
    async fn the_key_is_that_of_the_published_test_vectors() {
        // RFC 7914, section 11; the first 32 bytes of its 64.
        let key = derive(view(&mut state(1)), "passwd", 1).await;
        assert_eq!(key.unwrap(), "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    }

    #[tokio::test]
    async fn a_call_over_its_limit_is_refused_but_a_known_key_is_free() {
        let mut state = state(10);
        let first = derive(view(&mut state), "a", 6).await.unwrap();
        assert_eq!(derive(view(&mut state), "a", 6).await, Ok(first.clone()), "it is known");
        let refused = derive(view(&mut state), "b", 6).await;
        assert!(matches!(&refused, Err(Error::TooCostly(text)) if text.contains("`pbkdf2_iterations`")), "{refused:?}");
        assert_ne!(derive(view(&mut state), "b", 4).await, Ok(first), "another password has another key");
    }

    #[tokio::test]
    async fn a_password_is_prepared_as_the_rfc_specifies() {
        // RFC 4013, section 3.
        for (text, expected) in
            [("I\u{ad}X", Some("IX")), ("\u{aa}", Some("a")), ("\u{2168}", Some("IX")), ("\u{7}", None)]
        {
            let prepared = view(&mut state(0)).saslprep(text.to_owned()).await.unwrap();
            assert_eq!(prepared.as_deref(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_derivation_without_iterations_or_salt_is_refused() {
        let mut state = state(10);
        assert!(matches!(derive(view(&mut state), "a", 0).await, Err(Error::Invalid(_))));
        assert!(matches!(view(&mut state).derive(b"a".into(), Vec::new(), 1).await, Err(Error::Invalid(_))));
    }
}
