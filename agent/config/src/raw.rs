//! The raw settings of a component.

use official::command_line::CommandLine;
use wasaba_core::tls::Trust;

/// The settings of a component as written, before they are resolved with what the plugin declares.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawSettings {
    /// Keys and values; a list repeats its key.
    pub settings: Vec<(String, String)>,
    /// The `allow` list: grants in addition to those of the settings.
    pub allow: Vec<String>,
    /// The table `tls`: the authorities that its connections accept, and their own certificate.
    pub trust: Trust,
    /// Whether the plugin may see the text of its secrets.
    pub reveal: bool,
    /// The value that the header `host` of its requests may have.
    pub virtual_host: Option<String>,
    /// The keys whose values came from a file, the environment or a credential, which only secrets may.
    pub references: Vec<String>,
    /// The command line of the official plugin that it stands in for.
    pub command_line: Option<CommandLine>,
    /// The table or file, for messages: `[plugin.metrics.web]`. Empty if there is none.
    pub place: String,
    /// Its file and line.
    pub line: FileLine,
}

/// A file and a line, `agent.conf:12`, or nothing. All compare equal: a table that only moved has not changed.
#[derive(Clone, Default, Eq)]
pub struct FileLine(pub String);

impl FileLine {
    /// Whether the table is in a file of the configuration.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

impl PartialEq for FileLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl RawSettings {
    /// A message about a problem with it, with its origin.
    #[must_use]
    pub fn problem(&self, what: &str) -> String {
        let Self { place, line, .. } = self;
        match (line.is_known(), place.is_empty()) {
            (true, _) => format!("{}: {place}: {what}", line.0),
            (false, true) => what.to_owned(),
            (false, false) => format!("{place}: {what}"),
        }
    }
}
