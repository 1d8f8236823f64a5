//! The client's side of SCRAM-SHA-256 (RFC 5802 and 7677): it proves that it knows the password without sending it, and the
//! server proves the same. The caller derives the salted password, which is the expensive part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The name of the mechanism.
pub(crate) const NAME: &str = "SCRAM-SHA-256";

/// No channel binding, no other identity.
const GS2_HEADER: &str = "n,,";

/// An exchange in progress.
pub(crate) struct Exchange {
    nonce: String,
}

/// The server's challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    nonce: String,
    server_first: String,
}

/// The client's final message, and the signature that the server must answer with.
pub(crate) struct Proof {
    pub(crate) message: String,
    server_signature: [u8; 32],
}

impl Exchange {
    /// Begins with a nonce, which must be random.
    pub(crate) fn new(nonce: String) -> Self {
        Self { nonce }
    }

    /// The first message, without the user's name: PostgreSQL takes it from the startup message.
    pub(crate) fn first(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Parses the server's first message. `None` if it is malformed or does not continue our nonce.
    pub(crate) fn challenge(&self, server_first: &str) -> Option<Challenge> {
        let mut fields = server_first.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?.to_owned();
        let salt = BASE64.decode(fields.next()?.strip_prefix("s=")?).ok()?;
        let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        let is_longer = nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce);
        is_longer.then(|| Challenge { salt, iterations, nonce, server_first: server_first.to_owned() })
    }

    /// The proof for the challenge.
    pub(crate) fn prove(&self, challenge: &Challenge, salted_password: &[u8]) -> Proof {
        let without_proof = format!("c={},r={}", BASE64.encode(GS2_HEADER), challenge.nonce);
        let signed = format!("{},{},{without_proof}", self.first_bare(), challenge.server_first);
        let client_key = hmac(salted_password, b"Client Key");
        let client_signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
        let proof = client_key.iter().zip(client_signature).map(|(key, signature)| key ^ signature);
        let proof = BASE64.encode(proof.collect::<Vec<_>>());
        let server_key = hmac(salted_password, b"Server Key");
        let server_signature = hmac(&server_key, signed.as_bytes());
        Proof { message: format!("{without_proof},p={proof}"), server_signature }
    }
}

impl Proof {
    /// Whether the server's final message proves that it knows the password, too.
    pub(crate) fn is_answered_by(&self, server_final: &str) -> bool {
        let signature = server_final.strip_prefix("v=").map(|text| text.split(',').next().unwrap_or_default());
        signature.and_then(|text| BASE64.decode(text).ok()).is_some_and(|bytes| bytes == self.server_signature)
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // An HMAC accepts keys of any length.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PBKDF2 as the agent does it natively: one block.
    fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
        let mut last = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut key = last;
        for _ in 1..iterations {
            last = hmac(password, &last);
            key.iter_mut().zip(last).for_each(|(key, last)| *key ^= last);
        }
        key
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_exchange_matches_the_rfc_except_for_the_users_name() {
        // RFC 7677, section 3, has the name `user` in its first message; PostgreSQL leaves it empty, which changes the proof.
        let exchange = Exchange::new("rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(exchange.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = exchange.challenge(SERVER_FIRST).unwrap();
        assert_eq!(challenge.iterations, 4096);
        let salted = salted(b"pencil", &challenge.salt, challenge.iterations);
        // The stored key of the RFC's example, as published: a hash of the client key.
        let stored_key = BASE64.encode(Sha256::digest(hmac(&salted, b"Client Key")));
        assert_eq!(stored_key, "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
        let proof = exchange.prove(&challenge, &salted);
        assert!(proof.message.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="));
        let answer = format!("v={}", BASE64.encode(proof.server_signature));
        assert!(proof.is_answered_by(&answer));
        assert!(!proof.is_answered_by("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), "another user's signature");
        assert!(!proof.is_answered_by("e=invalid-proof") && !proof.is_answered_by(""));
    }

    #[test]
    fn a_challenge_that_does_not_continue_our_nonce_is_refused() {
        let exchange = Exchange::new("other".to_owned());
        assert_eq!(exchange.challenge(SERVER_FIRST), None);
        let own = Exchange::new("rOprNGfwEbeRWgbNEkqO".to_owned());
        for text in [
            "",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z",
        ] {
            assert_eq!(own.challenge(text), None, "{text}");
        }
    }
}
