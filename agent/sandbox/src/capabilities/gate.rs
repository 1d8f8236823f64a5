//! The gate: where a capability asks an instance's grants, and where a refusal is counted.

use std::sync::Arc;

use wasaba_core::secret::Secrets;
use wasaba_core::tls;

use super::grants::Grants;
use super::meter::Meter;
use crate::failure::{Failure, Kind};

/// The most bytes of a refusal that are shown: it names what the plugin asked for.
const REFUSAL_BYTES: usize = 1_024;

/// The most bytes of a host, of a server's name in TLS, and of a protocol in TLS: there are no longer ones.
pub(super) const MOST_HOST_BYTES: usize = 255;

/// The most bytes of a path; the kernel takes no longer one.
pub(super) const MOST_PATH_BYTES: usize = 4_096;

/// Refuses a text that is longer than what it names can be. Before anything else reads it: reading millions of bytes takes as long as
/// many turns, and so does quoting them in an error.
///
/// # Errors
/// Its length, and what it may be.
pub(super) fn bounded(what: &str, text: &str, most: usize) -> Result<(), Failure> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Failure::new(Kind::Invalid, format!("a {what} of {} bytes, more than {most}", text.len())))
}

/// The grants of one instance, with the meter that counts what they refuse, and the TLS of its connections. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Gate {
    grants: Arc<Grants>,
    meter: Arc<Meter>,
    secrets: Secrets,
    tls: tls::Client,
}

impl Gate {
    pub(super) fn new(grants: Arc<Grants>, meter: Arc<Meter>) -> Self {
        let tls = tls::Client::new(grants.trust.clone());
        Self { grants, meter, secrets: Secrets::default(), tls }
    }

    /// The same, with refusals that do not show these.
    pub(super) fn hiding(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Asks the grants.
    ///
    /// # Errors
    /// The refusal, which is counted.
    pub(super) fn check<T>(&self, ask: impl FnOnce(&Grants) -> Result<T, String>) -> Result<T, Failure> {
        ask(&self.grants).map_err(|refusal| {
            let refusal = self.secrets.hidden_in(&refusal, REFUSAL_BYTES);
            Failure::new(Kind::Denied, self.meter.refuse(refusal))
        })
    }

    /// The grants, for what is not refused.
    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The TLS of the instance's connections.
    pub(super) fn tls(&self) -> &tls::Client {
        &self.tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_without_secrets() {
        let secrets = Secrets::new([wasaba_core::secret::Secret::new("hunter2")]);
        let gate = Gate { secrets, ..Gate::default() };
        let refused = gate.check(|_| Err::<(), _>("no grant for http://hunter2.example".to_owned())).unwrap_err();
        assert_eq!(gate.meter.refused(), ["no grant for http://[redacted].example"]);
        assert_eq!(refused.text, "no grant for http://[redacted].example");
    }

    #[test]
    fn only_a_refusal_is_counted() {
        let gate = Gate::default();
        assert_eq!(gate.check(|_| Ok(5)), Ok(5));
        assert_eq!(gate.meter.refusals(), 0);
        assert!(gate.check(|grants| grants.check_file("/etc/shadow")).is_err());
        assert_eq!(gate.meter.refusals(), 1);
    }
}
