//! What the plugin makes of a server's bytes, without a server: for tests, in which the bytes are anything.

use postgres_protocol::message::backend::Message;
use wasaba_plugin::crypto::ScramProof;
use wasaba_plugin::{Error, Values, failed};

use crate::connection::{Inbox, Results, check_mechanisms};
use crate::query::{Server, Version};
use crate::scram::Exchange;

/// The nonce that a login begins with here.
pub const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// The signature that a server must answer with here.
pub const SIGNATURE: [u8; 3] = *b"yes";

/// The values of every part in what a server sends after the login, which arrives in pieces of `piece_bytes`: the version of the
/// server, and one result after the other, for the parts in their order. Messages of a login are read, too.
///
/// # Errors
/// As the plugin has them, in other words.
pub fn values(bytes: &[u8], piece_bytes: usize) -> Result<Values, Error> {
    let foreign = |_| failed!("the bytes are not PostgreSQL's protocol");
    let parts = crate::official::ALL.iter().chain(crate::extra::ALL).collect::<Vec<_>>();
    let (mut inbox, mut results, mut answers) = (Inbox::new(), Results::of(parts.len()), Vec::new());
    let (mut version, exchange) = (None, Exchange::new(NONCE.to_owned()));
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.add(piece).map_err(foreign)?;
        while let Some(message) = inbox.next().map_err(foreign)? {
            match message {
                Message::AuthenticationSasl(body) => check_mechanisms(&body)?,
                Message::AuthenticationSaslContinue(body) => log_in(&exchange, body.data()),
                Message::ParameterStatus(body) if body.name()? == "server_version" => {
                    version = Some(crate::version(body.value()?)?);
                }
                other => results.take(other, &mut answers)?,
            }
        }
    }
    let version = version.unwrap_or(Version::OLDEST);
    let mut values = Values::new();
    for (part, answer) in parts.iter().zip(answers) {
        let Ok(rows) = answer else { continue };
        for upstream in [false, true] {
            values.extend((part.read.values)(&rows, Server { version, upstream })?);
        }
    }
    Ok(values)
}

/// The rest of a login, with a proof as the agent would compute it.
fn log_in(exchange: &Exchange, server_first: &[u8]) {
    let Some(challenge) = std::str::from_utf8(server_first).ok().and_then(|text| exchange.challenge(text)) else {
        return;
    };
    let proof = ScramProof {
        client_proof: exchange.auth_message(&challenge).into_bytes(),
        server_signature: SIGNATURE.to_vec(),
    };
    Exchange::proved(&challenge, proof);
}

/// Whether a login ends with this message of the server: only the right signature is one.
#[must_use]
pub fn is_logged_in_by(server_final: &str) -> bool {
    let exchange = Exchange::new(NONCE.to_owned());
    let Some(challenge) = exchange.challenge(&format!("r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")) else {
        return false;
    };
    let proof = ScramProof { client_proof: Vec::new(), server_signature: SIGNATURE.to_vec() };
    Exchange::proved(&challenge, proof).is_answered_by(server_final)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_in_which_a_result_arrives_do_not_matter() {
        let sent = include_bytes!("../made/answers-15.bin");
        let whole = values(sent, 1 << 20);
        assert_eq!(values(sent, 7), whole);
        assert!(whole.is_ok_and(|values| values.len() > 20));
        assert!(matches!(values(b"HTTP/1.1 200 OK\r\n", 3), Err(Error::Failed(_))));
    }

    #[test]
    fn only_the_right_signature_ends_a_login() {
        assert!(is_logged_in_by("v=eWVz") && !is_logged_in_by("v=bm8=") && !is_logged_in_by(""));
    }
}
