//! The gate: where a capability asks an instance's grants, and where a refusal is counted.

use std::sync::Arc;

use wasaba_core::tls::Trust;

use super::grants::Grants;
use super::meter::Meter;
use crate::failure::{Failure, Kind};

/// The grants of one instance, with the meter that counts what they refuse. Clones share both.
#[derive(Clone, Default)]
pub(super) struct Gate {
    grants: Arc<Grants>,
    meter: Arc<Meter>,
}

impl Gate {
    pub(super) fn new(grants: Arc<Grants>, meter: Arc<Meter>) -> Self {
        Self { grants, meter }
    }

    /// Asks the grants.
    ///
    /// # Errors
    /// The refusal, which is counted.
    pub(super) fn check<T>(&self, ask: impl FnOnce(&Grants) -> Result<T, String>) -> Result<T, Failure> {
        ask(&self.grants).map_err(|refusal| Failure::new(Kind::Denied, self.meter.refuse(refusal)))
    }

    /// The grants, for what is not refused.
    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Which certificates the instance's connections trust.
    pub(super) fn trust(&self) -> &Trust {
        &self.grants.trust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_counted() {
        let gate = Gate::default();
        assert_eq!(gate.check(|_| Ok(5)), Ok(5));
        assert_eq!(gate.meter.refusals(), 0);
        assert!(gate.check(|grants| grants.check_file("/etc/shadow")).is_err());
        assert_eq!(gate.meter.refusals(), 1);
    }
}
