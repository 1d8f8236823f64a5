//! `crypto`: computations that log-ins need, done natively. They reach nothing outside, so they need no grant; they take time,
//! so they have a limit.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use md5::{Digest as _, Md5};
use ring::{digest, hmac, pbkdf2};
use wasaba_core::secret::Secret;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::blocking::Blocking;
use super::types::{Handle, secret};
use crate::contract::wire::crypto::{self as contract, Error, ScramProof};
use crate::failure::{Failure, Kind};
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

    fn take(&mut self, iterations: u32) -> Result<(), Failure> {
        let left = self.left.checked_sub(iterations).ok_or_else(|| {
            let why = format!(
                "{iterations} PBKDF2 iterations exceed the {} that are left of this call's {} (limit `pbkdf2_iterations`)",
                self.left, self.limit
            );
            Failure::new(Kind::TooCostly, why)
        })?;
        self.left = left;
        Ok(())
    }
}

/// All that this capability sees of a call.
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) call: &'a mut OfCall,
    /// The call's secrets are in it.
    pub(super) table: &'a mut ResourceTable,
}

/// The fewest iterations of SCRAM (RFC 7677): with fewer, a server that does not know the password could guess it from the proof.
const FEWEST_ITERATIONS: u32 = 4_096;

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
    /// The salted password of SCRAM.
    async fn derive(&mut self, password: &Secret, salt: Vec<u8>, iterations: u32) -> Result<Key, Failure> {
        if iterations < FEWEST_ITERATIONS || salt.is_empty() {
            let why = format!(
                "the server asks for a SCRAM proof of {iterations} iterations with a salt of {} bytes, which would give the \
                 password away: at least {FEWEST_ITERATIONS} iterations and a salt are required",
                salt.len()
            );
            return Err(Failure::new(Kind::Invalid, why));
        }
        // As the server does: a password that cannot be normalized is used unchanged.
        let prepared = stringprep::saslprep(password.reveal()).unwrap_or(Cow::Borrowed(password.reveal()));
        let inputs = inputs(prepared.as_bytes(), &salt, iterations);
        let last = *self.instance.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = last.filter(|(known, _)| known.as_ref() == inputs.as_ref()) {
            return Ok(key);
        }
        self.call.take(iterations)?;
        let (password, rounds) = (prepared.into_owned(), NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN));
        let derive = move || {
            let mut key = [0; digest::SHA256_OUTPUT_LEN];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut key);
            key
        };
        // On another thread, so that it does not delay the other plugins.
        let key = self.instance.blocking.run(|| turn::timed(derive)).await;
        let (key, computed) = key.ok_or_else(|| {
            Failure::new(Kind::Failed, "the agent crashed while deriving it; this is a bug in wasaba")
        })?;
        turn::charge(computed);
        *self.instance.derived.lock().unwrap_or_else(PoisonError::into_inner) = Some((inputs, key));
        Ok(key)
    }
}

fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

/// Both proofs for what was signed (RFC 5802, section 3).
fn proof(salted: &Key, auth_message: &[u8]) -> ScramProof {
    let client_key = sign(salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let client_signature = sign(stored_key.as_ref(), auth_message);
    let client_proof =
        client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(key, signature)| key ^ signature);
    let server_key = sign(salted, b"Server Key");
    ScramProof {
        client_proof: client_proof.collect(),
        server_signature: sign(server_key.as_ref(), auth_message).as_ref().to_vec(),
        attributes: Vec::new(),
    }
}

/// The digest of the parts in hexadecimal digits.
fn md5(parts: &[&[u8]]) -> String {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl contract::Host for View<'_> {
    async fn scram_sha256(
        &mut self,
        password: Resource<Handle>,
        salt: Vec<u8>,
        iterations: u32,
        auth_message: String,
    ) -> Result<Result<ScramProof, Error>> {
        let password = secret(self.table, &password)?;
        let salted = self.derive(&password, salt, iterations).await;
        Ok(salted.map(|salted| proof(&salted, auth_message.as_bytes())).map_err(Error::from))
    }

    async fn postgres_md5(&mut self, password: Resource<Handle>, user: String, salt: Vec<u8>) -> Result<String> {
        let password = secret(self.table, &password)?;
        let inner = md5(&[password.reveal().as_bytes(), user.as_bytes()]);
        Ok(format!("md5{}", md5(&[inner.as_bytes(), &salt])))
    }
}

#[cfg(test)]
mod tests {
    use super::contract::Host;
    use super::*;

    struct State {
        instance: OfInstance,
        call: OfCall,
        table: ResourceTable,
    }

    impl State {
        fn new(limit: u32) -> Self {
            Self {
                instance: OfInstance::new(Blocking::default()),
                call: OfCall::new(limit),
                table: ResourceTable::new(),
            }
        }

        fn view(&mut self) -> View<'_> {
            View { instance: &self.instance, call: &mut self.call, table: &mut self.table }
        }

        fn handle(&mut self, text: &str) -> Resource<Handle> {
            Resource::new_borrow(self.table.push(Handle(Secret::new(text))).unwrap().rep())
        }

        async fn scram(&mut self, password: &str, salt: &[u8], iterations: u32) -> Result<ScramProof, Error> {
            let password = self.handle(password);
            self.view().scram_sha256(password, salt.to_vec(), iterations, AUTH_MESSAGE.into()).await.unwrap()
        }
    }

    // RFC 7677, section 3.
    const SALT: [u8; 16] =
        [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
    const AUTH_MESSAGE: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn both_proofs_are_those_of_the_rfc() {
        let proof = State::new(4_096).scram("pencil", &SALT, 4_096).await.unwrap();
        // dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ= and 6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=
        assert_eq!(hex(&proof.client_proof), "747cdb65aa56224e2352137e52d7bdcad6a0f738df30782caa69a2cfb0277554");
        assert_eq!(hex(&proof.server_signature), "eabae24d1062db75a9451ff0b6ea7e98c8546549ff741e672d3251b2397de46e");
    }

    #[tokio::test]
    async fn a_password_is_normalized_and_one_that_cannot_be_is_used_unchanged() {
        let mut state = State::new(u32::MAX);
        // RFC 4013, section 3: both are the same password.
        let (soft, plain) = (state.scram("I\u{ad}X", &SALT, 4_096).await, state.scram("IX", &SALT, 4_096).await);
        assert_eq!(soft.unwrap().client_proof, plain.unwrap().client_proof);
        let (bell, other) = (state.scram("\u{7}", &SALT, 4_096).await, state.scram("\u{8}", &SALT, 4_096).await);
        assert_ne!(bell.unwrap().client_proof, other.unwrap().client_proof);
    }

    #[tokio::test]
    async fn a_call_over_its_limit_is_refused_but_a_known_key_is_free() {
        let mut state = State::new(10_000);
        let first = state.scram("a", &SALT, 6_000).await.unwrap();
        assert_eq!(state.scram("a", &SALT, 6_000).await.unwrap().client_proof, first.client_proof, "it is known");
        let refused = state.scram("b", &SALT, 6_000).await.unwrap_err();
        assert!(refused.kind == "too-costly" && refused.message.contains("`pbkdf2_iterations`"), "{refused:?}");
    }

    #[tokio::test]
    async fn a_server_that_asks_for_a_cheap_proof_gets_none() {
        for (salt, iterations) in [(&SALT[..], 4_095), (&SALT, 1), (&SALT, 0), (&[], 4_096)] {
            let refused = State::new(u32::MAX).scram("pencil", salt, iterations).await.unwrap_err();
            assert!(refused.kind == "invalid" && refused.message.contains("password away"), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn an_md5_password_is_postgresqls() {
        let mut state = State::new(0);
        let password = state.handle("password");
        // From the tests of rust-postgres.
        let answer =
            state.view().postgres_md5(password, "md5_user".into(), vec![0x2a, 0x3d, 0x8f, 0xe0]).await.unwrap();
        assert_eq!(answer, "md562af4dd09bbb41884907a838a3233294");
    }
}
