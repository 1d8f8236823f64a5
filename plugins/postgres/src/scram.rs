//! The client's side of SCRAM-SHA-256 (RFC 5802 and 7677): it proves that it knows the password without sending it, and the
//! server proves the same. The agent computes both proofs, since it has the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wasaba_plugin::crypto::ScramProof;

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
    server_signature: Vec<u8>,
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

    /// What both sides sign.
    pub(crate) fn auth_message(&self, challenge: &Challenge) -> String {
        format!("{},{},{}", self.first_bare(), challenge.server_first, without_proof(challenge))
    }

    /// The final message with the proof for the challenge.
    pub(crate) fn proved(challenge: &Challenge, proof: ScramProof) -> Proof {
        let ScramProof { client_proof, server_signature } = proof;
        let message = format!("{},p={}", without_proof(challenge), BASE64.encode(client_proof));
        Proof { message, server_signature }
    }
}

fn without_proof(challenge: &Challenge) -> String {
    format!("c={},r={}", BASE64.encode(GS2_HEADER), challenge.nonce)
}

impl Proof {
    /// Whether the server's final message proves that it knows the password, too.
    pub(crate) fn is_answered_by(&self, server_final: &str) -> bool {
        let signature = server_final.strip_prefix("v=").map(|text| text.split(',').next().unwrap_or_default());
        signature.and_then(|text| BASE64.decode(text).ok()).is_some_and(|bytes| bytes == self.server_signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_exchange_matches_the_rfc_except_for_the_users_name() {
        // RFC 7677, section 3, has the name `user` in its first message; PostgreSQL leaves it empty.
        let exchange = Exchange::new("rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(exchange.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = exchange.challenge(SERVER_FIRST).unwrap();
        assert_eq!(challenge.iterations, 4096);
        let without_proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = format!("n=,r=rOprNGfwEbeRWgbNEkqO,{SERVER_FIRST},{without_proof}");
        assert_eq!(exchange.auth_message(&challenge), signed);
        let decoded = |text: &str| BASE64.decode(text).unwrap();
        let (client, server) =
            ("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let computed = ScramProof { client_proof: decoded(client), server_signature: decoded(server) };
        let proof = Exchange::proved(&challenge, computed);
        assert_eq!(proof.message, format!("{without_proof},p={client}"));
        assert!(proof.is_answered_by(&format!("v={server}")));
        assert!(!proof.is_answered_by(&format!("v={client}")), "another signature");
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
