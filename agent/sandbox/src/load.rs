//! The checks that a file must pass to be loaded as a plugin, and the errors of those that do not.

use std::fmt;
use std::path::{Path, PathBuf};

use wasaba_core::paths::trusted::Unopened;
use wasaba_core::paths::{named, trusted};
use wasaba_core::setting::Description;
use wasaba_core::text::printable;
use wasmtime::component::Component;

use crate::capabilities;
use crate::compile::CompileError;
use crate::contract;
use crate::failure::Failure;

/// Why a file was not loaded as a plugin: a sentence that begins with the file's name and says the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file, as the rest of a sentence that begins with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It cannot be read.
    Unreadable(String),
    /// Another user could have written it.
    Untrusted(String),
    /// It is larger than this many bytes (limit `component_mib`).
    TooLarge(u64),
    /// Its SHA-256 is not the configured one.
    Digest {
        /// The configured SHA-256, in hexadecimal digits.
        expected: String,
        /// The file's.
        found: String,
    },
    /// Its first bytes are not those of a component.
    Header(String),
    /// It cannot be compiled.
    Compile(CompileError),
    /// It does not keep the contract, or speaks another version.
    Contract(String),
    /// It imports something that the agent does not have.
    Import(String),
    /// The call that describes it failed.
    Describe(Failure),
    /// What it says of itself is invalid.
    Description(String),
    /// The agent cannot run or load any component of this kind.
    Agent(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` {}", printable(&self.file.to_string_lossy(), 400), self.problem)
    }
}

impl std::error::Error for LoadError {}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(formatter, "cannot be read: {why}"),
            Self::Untrusted(why) => write!(formatter, "is not loaded: {why}"),
            Self::TooLarge(limit) => write!(formatter, "is larger than {} MiB (limit `component_mib`)", limit >> 20),
            Self::Digest { expected, found } => write!(
                formatter,
                "does not match its configured digest: it has \"sha256:{found}\", not \"sha256:{expected}\"; install the \
                 right file, or write the new digest if you trust this one"
            ),
            Self::Compile(error) => error.fmt(formatter),
            Self::Describe(failure) => write!(formatter, "cannot describe itself: {failure}"),
            Self::Header(text)
            | Self::Contract(text)
            | Self::Import(text)
            | Self::Description(text)
            | Self::Agent(text) => formatter.write_str(text),
        }
    }
}

/// The packages of WASI 0.2.
const WASI: &[&str] = &["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];

/// Reads `path` in one go, so that the bytes that were hashed are those that are compiled. `is_known` says that the file may be anybody's.
///
/// # Errors
/// It cannot be read, is larger than `limit` bytes, or another user could have written it.
pub(crate) fn read(path: &Path, is_known: bool, limit: u64) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    let opened = match is_known {
        true => named::open(path).map_err(unreadable)?,
        false => trusted::open(path).map_err(|error| match error {
            Unopened::Untrusted(why) => Problem::Untrusted(why),
            Unopened::Unreadable(error) => unreadable(error),
        })?,
    };
    if opened.about.len() > limit {
        return Err(Problem::TooLarge(limit));
    }
    opened.read(limit).map_err(unreadable)
}

/// Compares the file with the configured digest, before anything else looks into it.
pub(crate) fn check_digest(expected: Option<&str>, found: &str) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != found => {
            Err(Problem::Digest { expected: expected.to_owned(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Recognizes by the first bytes what is not a component; the compiler's error would be less clear.
pub(crate) fn check_header(wasm: &[u8]) -> Result<(), Problem> {
    const CURE: &str =
        "build it with `cargo build --release --target wasm32-wasip2`, or your language's component tools";
    Err(Problem::Header(match wasm {
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => return Ok(()),
        [] => "is empty".to_owned(),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => format!("is a core module, not a component: {CURE}"),
        [0, b'a', b's', b'm', ..] => format!("is WebAssembly of an unknown kind, or truncated: {CURE}"),
        [0x7f, b'E', b'L', b'F', ..] => {
            "is machine code; the agent compiles plugins itself: install the .wasm file instead".to_owned()
        }
        _ => format!("is not a WebAssembly file: {CURE}"),
    }))
}

/// The interfaces of the contract that the component exports. Distinguishes a missing one from one of another version, which
/// the linker does not.
pub(crate) fn check_contract(component: &Component) -> Result<Vec<&'static str>, Problem> {
    let (name, spoken) = (contract::NAME, contract::VERSION);
    let component_type = component.component_type();
    let exports = component_type.exports(component.engine()).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let version_of = |interface: &str| {
        let prefix = format!("{name}/{interface}@");
        let mut versions = exports.iter().filter_map(|name| name.strip_prefix(&prefix)).collect::<Vec<_>>();
        versions.sort_by_key(|version| !contract::is_spoken(version));
        versions.first().map(|version| (*version).to_owned())
    };
    let mut found = Vec::new();
    for interface in ["plugin", "metrics", "checks", "metadata"] {
        match version_of(interface) {
            Some(version) if contract::is_spoken(&version) => found.push(interface),
            Some(version) => {
                return Err(Problem::Contract(format!(
                    "speaks version {} of the contract {name}, this agent speaks {spoken}: build the plugin with the SDK of \
                     this agent's release, or update the agent",
                    printable(&version, 40)
                )));
            }
            None if interface == "plugin" => {
                let text = format!("is not a wasaba plugin: it does not export `{name}/plugin@{spoken}`");
                return Err(Problem::Contract(text));
            }
            None => {}
        }
    }
    if found.len() < 2 {
        return Err(Problem::Contract(format!(
            "does nothing: besides `plugin` it must export `{name}/metrics@{spoken}`, `checks` or `metadata`"
        )));
    }
    Ok(found)
}

/// Refuses an import that is neither the contract's nor WASI 0.2's, by its name.
pub(crate) fn check_imports(component: &Component) -> Result<(), Problem> {
    let component_type = component.component_type();
    for (name, _) in component_type.imports(component.engine()) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let known = match interface.split_once('/') {
            Some((contract::NAME, "types")) => contract::is_spoken(version),
            Some((contract::NAME, word)) => contract::is_spoken(version) && is_capability(word),
            Some((package, _)) => {
                let wasi = package.strip_prefix("wasi:").is_some_and(|package| WASI.contains(&package));
                wasi && version.starts_with("0.2.")
            }
            None => false,
        };
        if !known {
            return Err(Problem::Import(format!(
                "imports `{}`, which this agent does not have: it has WASI 0.2 and {}@{} with {}",
                printable(name, 200),
                contract::NAME,
                contract::VERSION,
                capabilities::ALL.iter().map(|capability| capability.name).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    Ok(())
}

/// The words of the capabilities that the component imports.
pub(crate) fn imported_capabilities(component: &Component) -> Vec<String> {
    let component_type = component.component_type();
    let imports = component_type.imports(component.engine()).map(|(name, _)| name);
    let words = imports.filter_map(|name| name.strip_prefix(contract::NAME)?.strip_prefix('/')?.split('@').next());
    words.filter(|word| is_capability(word)).map(str::to_owned).collect()
}

fn is_capability(word: &str) -> bool {
    capabilities::ALL.iter().any(|capability| capability.name == word)
}

/// Checks what a plugin says of itself, which is shown and logged in many places.
pub(crate) fn check_description(description: &Description) -> Result<(), Problem> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let refuse = |text| Err(Problem::Description(text));
    if !is_name(&description.name) {
        return refuse(format!(
            "describes itself with the invalid name {:?}: letters, digits, - and _ are allowed, 64 at most",
            printable(&description.name, 80)
        ));
    }
    let shown = [&description.version, &description.summary].into_iter();
    let mut shown = shown.chain(description.settings.iter().map(|setting| &setting.help));
    if let Some(long) = shown.find(|text| text.len() > 1_024) {
        return refuse(format!("describes itself with a text of {} bytes, more than 1,024", long.len()));
    }
    if description.settings.len() > 200 {
        return refuse(format!("describes {} settings, more than 200", description.settings.len()));
    }
    for setting in &description.settings {
        if !is_name(&setting.key) {
            let key = printable(&setting.key, 80);
            return refuse(format!(
                "describes a setting with the invalid key {key:?}: letters, digits, - and _ are allowed, 64 at most"
            ));
        }
        if description.settings.iter().filter(|other| other.key == setting.key).count() > 1 {
            return refuse(format!("describes the setting `{}` twice", setting.key));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasaba_core::setting::{Setting, SettingKind};

    use super::*;

    #[test]
    fn a_file_that_is_not_a_component_is_recognized_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], "is empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm", "truncated"),
            (b"\x7fELF\x02", "machine code"),
            (b"<html>", "not a WebAssembly file"),
        ] {
            let error = check_header(bytes).unwrap_err();
            assert!(matches!(&error, Problem::Header(text) if text.contains(expected)), "{bytes:?}: {error}");
        }
        assert_eq!(check_header(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_the_error_names_it() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a.wasm");
        let error = |problem| LoadError { file: file.clone(), problem }.to_string();
        let missing = error(read(&file, false, 3).unwrap_err());
        assert_eq!(missing, format!("`{}` cannot be read: No such file or directory (os error 2)", file.display()));
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read(&file, false, 4), Ok(b"1234".to_vec()));
        assert_eq!(read(&file, false, 3), Err(Problem::TooLarge(3)));
        assert!(error(Problem::TooLarge(1 << 20)).ends_with("` is larger than 1 MiB (limit `component_mib`)"));
    }

    #[test]
    fn a_file_that_others_can_write_to_is_read_only_if_it_is_known_by_other_means() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a.wasm");
        std::fs::write(&file, "1234").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = LoadError { file: file.clone(), problem: read(&file, false, 4).unwrap_err() }.to_string();
        assert!(refused.contains("is not loaded: ") && refused.contains("chmod go-w"), "{refused}");
        assert_eq!(read(&file, true, 4), Ok(b"1234".to_vec()));
    }

    #[test]
    fn only_the_configured_digest_passes() {
        assert_eq!((check_digest(None, "ab"), check_digest(Some("ab"), "ab")), (Ok(()), Ok(())));
        let error = check_digest(Some("cd"), "ab").unwrap_err();
        assert_eq!(error, Problem::Digest { expected: "cd".into(), found: "ab".into() });
    }

    #[test]
    fn a_description_that_cannot_be_shown_is_refused() {
        let setting = |key: &str, help: &str| Setting {
            key: key.into(),
            kind: SettingKind::Text,
            default: None,
            required: false,
            repeatable: false,
            help: help.into(),
        };
        let described = |name: &str, settings| Description { name: name.into(), settings, ..Description::default() };
        assert_eq!(check_description(&described("web", vec![setting("a", ""), setting("b", "")])), Ok(()));
        for (description, expected) in [
            (described("a b", Vec::new()), "name \"a b\""),
            (described("web", vec![setting("", "")]), "key \"\""),
            (described("web", vec![setting("a", ""), setting("a", "")]), "`a` twice"),
            (described("web", vec![setting("a", &"x".repeat(2_000))]), "2000 bytes"),
            (described("web", (0..201).map(|number| setting(&number.to_string(), "")).collect()), "201 settings"),
        ] {
            let error = check_description(&description).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
