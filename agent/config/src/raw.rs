//! The settings of one plugin instance as they were written.

use official::command_line::CommandLine;
use wasaba_core::tls::Trust;

/// The settings of one plugin instance as they were written; nothing has been checked against the plugin yet.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawSettings {
    /// Key and value; a list is a key several times.
    pub settings: Vec<(String, String)>,
    /// The `allow` list: what may be reached beyond the settings.
    pub allow: Vec<String>,
    /// Whom its connections believe, and who they say they are, as far as that is written beside the settings.
    pub trust: Trust,
    /// Keys whose values were read from a file or the environment; only secrets may be.
    pub references: Vec<String>,
    /// The command line of the official plugin in whose place it runs.
    pub command_line: Option<CommandLine>,
    /// Where it was written, for messages: `[plugin.metrics.web]`.
    pub place: String,
    /// In which file and line that is.
    pub line: FileLine,
}

/// A file and a line in it, `agent.conf:12`, or nothing. One is like the other: a table that has moved says what it said.
#[derive(Clone, Default, Eq)]
pub struct FileLine(pub String);

impl PartialEq for FileLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl RawSettings {
    /// A problem with it, told with where it stands.
    #[must_use]
    pub fn problem(&self, what: &str) -> String {
        let Self { place, line, .. } = self;
        if line.0.is_empty() { format!("{place}: {what}") } else { format!("{}: {place}: {what}", line.0) }
    }
}
