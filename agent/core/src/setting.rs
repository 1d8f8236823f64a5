//! The settings that a plugin declares, and the rest of its description, whichever version of the contract it speaks.

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
    /// A host name or an address.
    Host,
    /// A TCP port; with the host of the same prefix it grants connections.
    Port,
    /// The absolute path of a unix socket; grants connections to it.
    UnixSocket,
    /// The absolute path of a file; grants reading it.
    File,
    /// `true` accepts any certificate.
    TlsSkipVerify,
    /// How TLS is used, in PostgreSQL's words.
    TlsMode,
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
    /// One sentence for the operator.
    pub help: String,
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
}
