//! The checks that a file must pass to be loaded as a plugin, and the errors of those that do not.

use std::fmt;
use std::path::{Path, PathBuf};

use wasaba_core::paths::patient::{self, READ};
use wasaba_core::paths::trusted::Unopened;
use wasaba_core::paths::{named, trusted};
use wasaba_core::setting::{Description, Setting, SettingKind};
use wasaba_core::text::printable;
use wasmtime::component::Component;

use crate::capabilities;
use crate::compile::CompileError;
use crate::contract::{self, Version};
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
    /// It does not match the contract, or was built for another version.
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

impl From<CompileError> for Problem {
    fn from(error: CompileError) -> Self {
        Self::Compile(error)
    }
}

impl LoadError {
    /// Whether other plugins held it up, and nothing is wrong with the file.
    #[must_use]
    pub fn is_of_others(&self) -> bool {
        matches!(&self.problem, Problem::Describe(failure) if failure.is_of_others())
    }
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

/// [`read_now`], unless the file system does not answer.
///
/// # Errors
/// As [`read_now`], and that it took too long.
pub(crate) fn read(path: &Path, is_known: bool, limit: u64) -> Result<Vec<u8>, Problem> {
    patient::ask(path, READ, move |path| read_now(path, is_known, limit))
        .unwrap_or_else(|error| Err(Problem::Unreadable(error.to_string())))
}

/// Reads `path` in one go, so that the bytes that were hashed are those that are compiled. `is_known` says that the file may be anybody's.
///
/// # Errors
/// It cannot be read, is larger than `limit` bytes, or another user could have written it.
fn read_now(path: &Path, is_known: bool, limit: u64) -> Result<Vec<u8>, Problem> {
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
///
/// # Errors
/// What it is instead, and the cure.
pub fn check_header(wasm: &[u8]) -> Result<(), Problem> {
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

/// The version of the contract that the component was built for, and which of its interfaces it exports. Distinguishes a missing one from
/// one of another version, which the linker does not.
pub(crate) fn check_contract(component: &Component) -> Result<(&'static Version, Vec<&'static str>), Problem> {
    let (name, current) = (contract::NAME, contract::CURRENT.name);
    let component_type = component.component_type();
    let exports = component_type.exports(component.engine()).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let versions_of = |interface: &str| {
        let prefix = format!("{name}/{interface}@");
        exports.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect::<Vec<_>>()
    };
    let versions = versions_of("about");
    let Some(supported) = versions.iter().find_map(|version| contract::supported(version)) else {
        // What a contract was that had other names.
        let others =
            exports.iter().filter_map(|export| export.strip_prefix(name)?.split_once('@')).map(|(_, version)| version);
        let other = versions.iter().map(String::as_str).chain(others).next();
        return Err(Problem::Contract(match other {
            Some(version) => format!(
                "was built for version {} of the contract {name}; this agent supports {current}: build the plugin with the SDK \
                 of this agent's release, or update the agent",
                printable(version, 40)
            ),
            None => format!("is not a wasaba plugin: it does not export `{name}/about@{current}`"),
        }));
    };
    let is_of_it = |version: &String| contract::supported(version).is_some_and(|other| other.name == supported.name);
    let mut found = Vec::new();
    for interface in contract::EXPORTS {
        let versions = versions_of(interface);
        match versions.first() {
            None => {}
            Some(_) if versions.iter().any(is_of_it) => found.push(interface),
            Some(other) => {
                return Err(Problem::Contract(format!(
                    "exports `{name}/{interface}` of version {}, but `about` of {}: build it against one version",
                    printable(other, 40),
                    supported.name
                )));
            }
        }
    }
    if found.len() < 2 {
        return Err(Problem::Contract(format!(
            "exports nothing to run: besides `about` it must export `{name}/metrics@{current}`, `checks` or `metadata`"
        )));
    }
    Ok((supported, found))
}

/// The error of a component that does not match the contract.
pub(crate) fn foreign(error: wasmtime::Error) -> Problem {
    Problem::Contract(format!(
        "does not match the contract {}@{}: {}; build it with the contract of this release",
        contract::NAME,
        contract::CURRENT.name,
        format!("{error:#}").lines().next().unwrap_or_default()
    ))
}

/// Refuses an import that is neither the contract's nor WASI 0.2's, by its name.
pub(crate) fn check_imports(component: &Component) -> Result<(), Problem> {
    let component_type = component.component_type();
    for (name, _) in component_type.imports(component.engine()) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let is_supported = contract::supported(version).is_some();
        let known = match interface.split_once('/') {
            Some((contract::NAME, word)) => is_supported && (word == "types" || is_capability(word)),
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
                contract::CURRENT.name,
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

/// WASI's own doors, with the word in `reach` that they belong to, and the interface of which an import is one.
const DOORS: &[(&str, &str, &str)] =
    &[("http", "wasi:http", "wasi:http/outgoing-handler@"), ("tcp", "wasi:sockets", "wasi:sockets/tcp@")];

/// The doors of WASI that the component imports, as the words of `reach` with the doors' names.
pub(crate) fn imported_doors(component: &Component) -> Vec<(&'static str, &'static str)> {
    let component_type = component.component_type();
    let imports = component_type.imports(component.engine()).map(|(name, _)| name).collect::<Vec<_>>();
    let is_imported = |interface: &str| imports.iter().any(|name| name.starts_with(interface));
    let imported = DOORS.iter().filter(|(.., interface)| is_imported(interface));
    imported.map(|(word, door, _)| (*word, *door)).collect()
}

fn is_capability(word: &str) -> bool {
    capabilities::ALL.iter().any(|capability| capability.name == word)
}

/// Checks what a plugin says of itself, which is shown and logged in many places, against the bounds of `wit/about.wit`.
///
/// # Errors
/// The first bound that it exceeds.
pub fn check_description(description: &Description) -> Result<(), Problem> {
    let Description { name, version, summary, settings, reach: _, attributes } = description;
    let refuse = |text| Err(Problem::Description(text));
    if !is_name(name) {
        return refuse(format!(
            "describes itself with the invalid name {:?}: letters, digits, - and _ are allowed, 64 at most",
            printable(name, 80)
        ));
    }
    if version.len() > 64 {
        return refuse(format!("describes itself with a version of {} bytes, more than 64", version.len()));
    }
    if summary.chars().count() > 200 {
        return refuse(format!("describes itself with a summary of {} bytes, more than 200 characters", summary.len()));
    }
    if attributes.len() > 64 || attributes.iter().any(|(key, value)| key.len().saturating_add(value.len()) > 1_024) {
        return refuse("describes itself with more than 64 attributes, or one of more than 1,024 bytes".to_owned());
    }
    if settings.len() > 200 {
        return refuse(format!("describes {} settings, more than 200", settings.len()));
    }
    let oldest = attributes.iter().find(|(key, _)| key == "agent").map(|(_, version)| version.as_str());
    if let Some(oldest) = oldest.filter(|oldest| release(oldest) > release(env!("CARGO_PKG_VERSION"))) {
        let (needed, own) = (printable(oldest, 40), env!("CARGO_PKG_VERSION"));
        return refuse(format!("needs version {needed} of the agent, this is {own}: update the agent"));
    }
    let mut keys = std::collections::HashSet::new();
    for setting in settings {
        check_setting(setting, settings)?;
        if !keys.insert(setting.key.as_str()) {
            return refuse(format!("describes the setting `{}` twice", setting.key));
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(valid)
}

/// The numbers of a version, for comparison: of `1.2.0-rc1` those before the hyphen.
fn release(version: &str) -> Vec<u64> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

fn check_setting(setting: &Setting, all: &[Setting]) -> Result<(), Problem> {
    let Setting { key, kind, default, repeatable, port_of, aliases, help, required: _ } = setting;
    let refuse = |why: &str| Err(Problem::Description(format!("describes the setting `{}` {why}", printable(key, 80))));
    if !is_name(key) {
        let rule = "letters, digits, - and _ are allowed, 64 at most";
        return Err(Problem::Description(format!(
            "describes a setting with the invalid key {:?}: {rule}",
            printable(key, 80)
        )));
    }
    if help.chars().count() > 500 {
        return refuse("with help text of more than 500 characters");
    }
    match default {
        Some(_) if *kind == SettingKind::Secret => {
            return refuse("with a default, which a secret cannot have");
        }
        Some(default) if default.len() > 4_096 => return refuse("with a default of more than 4,096 bytes"),
        _ => {}
    }
    if let Some(host) = port_of {
        let host = all.iter().find(|other| other.key == *host && other.kind == SettingKind::Host);
        match host {
            _ if *kind != SettingKind::Port => return refuse("with `port-of`, but it is not a port"),
            None => return refuse("as the port of a host that it does not describe"),
            Some(host) if *repeatable || host.repeatable => {
                return refuse("as the port of a host, and one of both is repeatable: use the kind `endpoint`");
            }
            Some(_) => {}
        }
    }
    const MODES: [&str; 4] = ["off", "encrypt", "ca", "full"];
    let is_alias = |(word, meaning): &(String, String)| {
        is_name(word) && !MODES.contains(&word.as_str()) && MODES.contains(&meaning.as_str())
    };
    if !aliases.iter().all(is_alias) {
        return refuse("with invalid `aliases`: write `word=encrypt`, with another word than the four of `tls-mode`");
    }
    Ok(())
}

/// Holds what the plugin says that it reaches against what the component can ask for. Adds to the imported capabilities the doors of WASI
/// by which it reaches the rest; others say nothing, since the runtimes of languages import them unused.
pub(crate) fn check_reach(
    description: &Description,
    imports: &mut Vec<String>,
    doors: &[(&str, &str)],
) -> Result<(), Problem> {
    let import_of = |word: &str| {
        if word == "unix" {
            "tcp"
        } else if word == "file" {
            "files"
        } else {
            word
        }
        .to_owned()
    };
    let words = description.reach.words();
    let mut used = Vec::new();
    let is_missing = |word: &&&str| {
        let door = doors.iter().find(|(of, _)| *of == **word).filter(|_| !imports.contains(&import_of(word)));
        used.extend(door.map(|(_, door)| (*door).to_owned()));
        door.is_none() && !imports.contains(&import_of(word))
    };
    match words.iter().find(is_missing) {
        None => {
            imports.extend(used);
            Ok(())
        }
        Some(word) => Err(Problem::Description(format!(
            "says that it reaches `{word}`, but does not import `{}`: remove it from `reach`",
            import_of(word)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use wasaba_core::setting::Reach;

    use super::*;

    #[test]
    fn only_a_description_that_others_held_up_is_worth_another_try() {
        let of = |problem| LoadError { file: "a.wasm".into(), problem }.is_of_others();
        assert!(of(Problem::Describe(Failure::of_others("timed out"))));
        assert!(!of(Problem::Describe(Failure::limit("compute_ms", "computed"))) && !of(Problem::TooLarge(1)));
    }

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

    fn setting(key: &str, kind: SettingKind) -> Setting {
        Setting::new(key, kind)
    }

    fn described(name: &str, settings: Vec<Setting>) -> Description {
        Description { name: name.into(), settings, ..Description::default() }
    }

    #[test]
    fn a_description_out_of_its_bounds_is_refused_with_the_bound() {
        let text = |key: &str| setting(key, SettingKind::Text);
        assert_eq!(check_description(&described("web", vec![text("a"), text("b")])), Ok(()));
        let plain = || described("web", Vec::new());
        let many = |count: usize| vec![("a".to_owned(), "b".to_owned()); count];
        for (description, expected) in [
            (described("a b", Vec::new()), "name \"a b\""),
            (described("web", vec![text("")]), "key \"\""),
            (described("web", vec![text("a"), text("a")]), "`a` twice"),
            (described("web", vec![Setting { help: "x".repeat(501), ..text("a") }]), "500 characters"),
            (described("web", vec![Setting { default: Some("x".repeat(4_097)), ..text("a") }]), "4,096 bytes"),
            (described("web", (0..201).map(|number| text(&number.to_string())).collect()), "201 settings"),
            (Description { summary: "あ".repeat(201), ..plain() }, "200 characters"),
            (Description { version: "1".repeat(65), ..plain() }, "more than 64"),
            (Description { attributes: many(65), ..plain() }, "64 attributes"),
            (Description { attributes: vec![("a".into(), "x".repeat(1_024))], ..plain() }, "1,024 bytes"),
            (Description { attributes: vec![("agent".into(), "99.1".into())], ..plain() }, "update the agent"),
        ] {
            let error = check_description(&description).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let attributes = vec![("agent".into(), "0.0.9".into()), ("license".into(), "MIT".into())];
        assert_eq!(check_description(&Description { attributes, ..plain() }), Ok(()));
    }

    #[test]
    fn a_setting_that_contradicts_its_kind_is_refused() {
        let (host, port) = (setting("host", SettingKind::Host), setting("port", SettingKind::Port));
        let of_host = |setting: Setting| Setting { port_of: Some("host".into()), ..setting };
        let aliased = |pairs: &[(&str, &str)]| Setting {
            aliases: pairs.iter().map(|(word, meaning)| ((*word).to_owned(), (*meaning).to_owned())).collect(),
            ..setting("tls", SettingKind::TlsMode)
        };
        let good = vec![host.clone(), of_host(port.clone()), aliased(&[("require", "encrypt")])];
        assert_eq!(check_description(&described("web", good)), Ok(()));
        for (settings, expected) in [
            (
                vec![Setting { default: Some("x".into()), ..setting("token", SettingKind::Secret) }],
                "which a secret cannot have",
            ),
            (vec![of_host(setting("a", SettingKind::Text)), host.clone()], "is not a port"),
            (vec![of_host(port.clone())], "does not describe"),
            (vec![of_host(Setting { repeatable: true, ..port.clone() }), host.clone()], "use the kind `endpoint`"),
            (vec![of_host(port), Setting { repeatable: true, ..host }], "use the kind `endpoint`"),
            (vec![aliased(&[("full", "encrypt")])], "invalid `aliases`"),
            (vec![aliased(&[("require", "any")])], "invalid `aliases`"),
        ] {
            let error = check_description(&described("web", settings)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn what_a_plugin_reaches_must_be_imported() {
        let imports = ["http", "tcp", "files"].map(str::to_owned).to_vec();
        let reaching = |reach| Description { reach, ..described("web", Vec::new()) };
        let check_reach =
            |description: &Description, imports: &[String]| check_reach(description, &mut imports.to_vec(), &[]);
        assert_eq!(check_reach(&reaching(Reach::ALL), &imports), Ok(()));
        assert_eq!(check_reach(&reaching(Reach::default()), &[]), Ok(()), "an import that it does not use");
        for (reach, word) in
            [(Reach { unix: true, ..Reach::default() }, "unix"), (Reach { file: true, ..Reach::default() }, "file")]
        {
            let error = check_reach(&reaching(reach), &imports[..1]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")), "{error}");
        }
    }

    #[test]
    fn a_door_of_wasi_counts_as_the_capability_and_is_named_only_where_it_stands_in_for_it() {
        let doors = [("http", "wasi:http"), ("tcp", "wasi:sockets")];
        let all = Reach { http: true, tcp: true, ..Reach::default() };
        for (reach, imports, expected) in [
            (all, vec![], vec!["wasi:http", "wasi:sockets"]),
            (all, vec!["http"], vec!["http", "wasi:sockets"]),
            (all, vec!["http", "tcp"], vec!["http", "tcp"]),
            (Reach::default(), vec!["log"], vec!["log"]),
        ] {
            let mut imports = imports.into_iter().map(str::to_owned).collect();
            let description = Description { reach, ..described("web", Vec::new()) };
            assert_eq!(check_reach(&description, &mut imports, &doors), Ok(()));
            assert_eq!(imports, expected);
        }
        let unix = Description { reach: Reach { unix: true, ..Reach::default() }, ..described("web", Vec::new()) };
        let refused = check_reach(&unix, &mut Vec::new(), &doors).unwrap_err();
        assert!(refused.to_string().contains("does not import `tcp`"), "WASI has no unix sockets: {refused}");
    }

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        assert!(release("0.10.0") > release("0.9.9") && release("1.2.0-rc1") == release("1.2.0"));
    }
}
