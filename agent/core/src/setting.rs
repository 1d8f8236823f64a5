//! The settings that a plugin declares, and the rest of its description, whichever version of the contract it speaks.

use crate::secret::Secret;

/// The kind of a setting: which values it takes, and what they grant. The contract's manual (`wit/plugin.wit`) explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A whole number of 64 bits.
    Integer,
    /// A finite number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `500ms`, `10s`, `5m`, `1h`.
    Duration,
    /// An `http` or `https` URL; grants HTTP to its origin.
    Url,
    /// A host and a port in one value; grants connections to it.
    Endpoint,
    /// A host name or an address.
    Host,
    /// A TCP port; with the host that `port_of` names it grants connections.
    Port,
    /// The absolute path of a unix socket; grants connections to it.
    UnixSocket,
    /// The absolute path of a file; grants reading it.
    File,
    /// `true` accepts any certificate.
    TlsSkipVerify,
    /// How TLS is used: `off`, `encrypt`, `ca`, `full`.
    TlsMode,
}

impl SettingKind {
    /// Every kind with its word in the contract.
    const WORDS: &[(&str, Self)] = &[
        ("text", Self::Text),
        ("secret", Self::Secret),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("duration", Self::Duration),
        ("url", Self::Url),
        ("endpoint", Self::Endpoint),
        ("host", Self::Host),
        ("port", Self::Port),
        ("unix-socket", Self::UnixSocket),
        ("file", Self::File),
        ("tls-skip-verify", Self::TlsSkipVerify),
        ("tls-mode", Self::TlsMode),
    ];

    /// The kind of this word, if this agent knows it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }

    /// Its word in the contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| *word)
    }
}

/// The value of a setting, as a plugin gets it.
#[derive(Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Of any kind but `secret`.
    Text(String),
    /// Of kind `secret`: the plugin gets a handle.
    Secret(Secret),
}

/// One setting as the plugin declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Lower-case words joined by `-`.
    pub key: String,
    /// Which values it takes.
    pub kind: SettingKind,
    /// The value if the configuration sets none.
    pub default: Option<String>,
    /// Whether an instance without it is refused.
    pub required: bool,
    /// Whether it may be set more than once.
    pub repeatable: bool,
    /// Of a port: the key of its host.
    pub port_of: Option<String>,
    /// Of a `tls-mode`: other words that are valid, each with one of the four that it means.
    pub aliases: Vec<(String, String)>,
    /// One sentence for the operator.
    pub help: String,
}

impl Setting {
    /// An optional setting without a default.
    #[must_use]
    pub fn new(key: impl Into<String>, kind: SettingKind) -> Self {
        Self {
            key: key.into(),
            kind,
            default: None,
            required: false,
            repeatable: false,
            port_of: None,
            aliases: Vec::new(),
            help: String::new(),
        }
    }
}

/// What a plugin says that it reaches. Nothing else is granted to it, whatever the operator's table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// HTTP requests.
    pub http: bool,
    /// Streams to hosts.
    pub tcp: bool,
    /// Streams to unix sockets.
    pub unix: bool,
    /// Reading files.
    pub file: bool,
}

impl Reach {
    /// Everything.
    pub const ALL: Self = Self { http: true, tcp: true, unix: true, file: true };

    /// The words of what is in it, in the contract's order.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let Self { http, tcp, unix, file } = self;
        let words = [("http", http), ("tcp", tcp), ("unix", unix), ("file", file)];
        words.into_iter().filter_map(|(word, is_in)| is_in.then_some(word)).collect()
    }

    /// Adds what the word stands for; `false` if this agent does not know it.
    pub fn add(&mut self, word: &str) -> bool {
        let is_in = match word {
            "http" => &mut self.http,
            "tcp" => &mut self.tcp,
            "unix" => &mut self.unix,
            "file" => &mut self.file,
            _ => return false,
        };
        *is_in = true;
        true
    }
}

/// A plugin's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The plugin's name.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// One line: what it collects.
    pub summary: String,
    /// The settings that it declares.
    pub settings: Vec<Setting>,
    /// What it reaches.
    pub reach: Reach,
    /// Facts about it, by key: `license`, `homepage` and others.
    pub attributes: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_what_is_reached_is_read_and_written_alike() {
        let mut reach = Reach::default();
        assert!(reach.words().is_empty() && !reach.add("udp"));
        for word in Reach::ALL.words() {
            assert!(reach.add(word), "{word}");
        }
        assert_eq!(reach, Reach::ALL);
    }

    #[test]
    fn an_unknown_kind_of_setting_is_not_taken_for_another() {
        assert_eq!(SettingKind::of_word("endpoint"), Some(SettingKind::Endpoint));
        assert_eq!((SettingKind::of_word("Endpoint"), SettingKind::of_word("")), (None, None));
    }
}
