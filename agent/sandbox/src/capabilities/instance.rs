//! The instance: on whose behalf calls are made, and what its capabilities keep from call to call.

use std::sync::Arc;
use std::time::SystemTime;

use wasaba_core::collect::StoredValues;
use wasaba_core::limits::Limits;
use wasaba_core::secret::{Secret, Secrets};

use super::blocking::Blocking;
use super::gate::Gate;
use super::grants::Grants;
use super::meter::Meter;
use super::script::Script;
use super::stderr::Printed;
use super::{crypto, files, http, log, tcp, types};

/// How much of a text is shown.
const SHOWN_BYTES: usize = 4_096;

/// One plugin instance. Clones are the same instance and cost three reference counts: one is made for each call.
#[derive(Clone)]
pub struct Instance {
    pub(super) state: Arc<State>,
    pub(super) values: Arc<StoredValues>,
    pub(super) script: Option<Arc<Script>>,
    /// What it prints, where that is kept.
    pub(super) printed: Option<Arc<Printed>>,
    /// When its calls begin, if not now.
    pub(super) time: Option<SystemTime>,
}

/// What all calls of an instance share, with a part for each capability.
pub(super) struct State {
    pub(super) limits: Arc<Limits>,
    pub(super) grants: Arc<Grants>,
    pub(super) meter: Arc<Meter>,
    pub(super) secrets: Secrets,
    pub(super) types: types::OfInstance,
    pub(super) http: Arc<http::OfInstance>,
    pub(super) tcp: Arc<tcp::OfInstance>,
    pub(super) log: Arc<log::OfInstance>,
    pub(super) files: files::OfInstance,
    pub(super) crypto: crypto::OfInstance,
}

impl Instance {
    /// The instance of this name, which the log shows; its texts are shown without `secrets`.
    #[must_use]
    pub fn new(name: Arc<str>, grants: Grants, limits: Arc<Limits>, secrets: Vec<Secret>) -> Self {
        // As a server sees them, and may echo them.
        let sent = grants.credentials.iter().map(|(_, user)| Secret::new(http::base64(user.reveal().as_bytes())));
        let secrets = Secrets::new(secrets.into_iter().chain(sent.collect::<Vec<_>>()));
        let (grants, meter) = (Arc::new(grants), Arc::<Meter>::default());
        let gate = Gate::new(Arc::clone(&grants), Arc::clone(&meter)).hiding(secrets.clone());
        let blocking = Blocking::default();
        let state = State {
            types: types::OfInstance::new(gate.clone()),
            http: Arc::new(http::OfInstance::new(
                gate.clone(),
                blocking.clone(),
                Arc::clone(&meter),
                limits.body_bytes,
            )),
            tcp: Arc::new(tcp::OfInstance::new(gate.clone(), blocking.clone(), Arc::clone(&meter))),
            log: Arc::new(log::OfInstance::new(name, secrets.clone(), Arc::clone(&meter), &limits)),
            files: files::OfInstance::new(gate, blocking.clone(), limits.file_bytes),
            crypto: crypto::OfInstance::new(blocking),
            limits,
            grants,
            meter,
            secrets,
        };
        Self { state: Arc::new(state), values: Arc::default(), script: None, printed: None, time: None }
    }

    /// The same instance with `script` in place of the outside.
    #[must_use]
    pub fn with_script(self, script: Arc<Script>) -> Self {
        Self { script: Some(script), ..self }
    }

    /// The same instance, of which is kept what it prints.
    #[must_use]
    pub fn with_prints(self) -> Self {
        Self { printed: Some(Arc::default()), ..self }
    }

    /// The lines that it has printed since this was last asked, without secrets; none unless they are kept.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.printed.as_ref().map(|printed| printed.take(&self.state.secrets)).unwrap_or_default()
    }

    /// The same instance with these stored values.
    #[must_use]
    pub fn with_values(self, values: Arc<StoredValues>) -> Self {
        Self { values, ..self }
    }

    /// The same instance, whose calls begin at `time`.
    #[must_use]
    pub fn with_time(self, time: SystemTime) -> Self {
        Self { time: Some(time), ..self }
    }

    /// The instance's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.state.log.name()
    }

    /// A text that names what the plugin named, without secrets: its beginning.
    #[must_use]
    pub fn hidden(&self, text: &str) -> String {
        self.state.secrets.hidden_in(text, SHOWN_BYTES)
    }

    /// The secrets that no name may contain: all, if the plugin may see their text. If it may not, a name is like a secret by
    /// accident only, such as that of a database whose password is its name.
    #[must_use]
    pub fn secrets_in_names(&self) -> Secrets {
        if self.state.grants.reveal { self.state.secrets.clone() } else { Secrets::default() }
    }

    /// What it may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.state.grants
    }

    /// What its calls may take.
    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.state.limits
    }

    /// What it has used and was refused.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.state.meter
    }
}
