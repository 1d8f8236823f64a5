//! `wasaba plugin new`: creates a folder with a plugin in Rust that builds and passes its tests, and copies of the SDK and the
//! contract that this agent was built with.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use wasaba_core::paths::own;

/// The plugin's own files; `{name}`, `{file}` and `{version}` are filled in.
const PLUGIN: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("tests.toml", include_str!("template/tests.toml.in")),
    ("README.md", include_str!("template/README.md.in")),
    (".gitignore", "/target\n"),
    // The SDK's own `Cargo.toml` belongs to a workspace that is not copied.
    ("wasaba/plugin-sdk/rust/Cargo.toml", include_str!("template/sdk.toml")),
];

macro_rules! copied {
    ($($file:literal)*) => { &[$(($file, include_str!(concat!("../../../../", $file)))),*] };
}

/// Copied unchanged into the folder `wasaba`.
const COPIED: &[(&str, &str)] = copied! {
    "plugin-sdk/rust/src/call.rs"
    "plugin-sdk/rust/src/crypto.rs"
    "plugin-sdk/rust/src/description.rs"
    "plugin-sdk/rust/src/error.rs"
    "plugin-sdk/rust/src/files.rs"
    "plugin-sdk/rust/src/http.rs"
    "plugin-sdk/rust/src/kv.rs"
    "plugin-sdk/rust/src/lib.rs"
    "plugin-sdk/rust/src/log.rs"
    "plugin-sdk/rust/src/parts.rs"
    "plugin-sdk/rust/src/report.rs"
    "plugin-sdk/rust/src/sample.rs"
    "plugin-sdk/rust/src/secret.rs"
    "plugin-sdk/rust/src/settings.rs"
    "plugin-sdk/rust/src/tcp.rs"
    "plugin-sdk/rust/src/up.rs"
    "wit/about.wit"
    "wit/call.wit"
    "wit/checks.wit"
    "wit/crypto.wit"
    "wit/files.wit"
    "wit/http.wit"
    "wit/kv.wit"
    "wit/log.wit"
    "wit/metadata.wit"
    "wit/metrics.wit"
    "wit/tcp.wit"
    "wit/types.wit"
    "wit/world.wit"
};

/// Creates the folder `name` in the working directory and prints the next steps.
///
/// # Errors
/// The name is not valid for a crate, the folder already exists, or it cannot be written.
pub fn run(name: &str) -> Result<(), String> {
    check(name)?;
    write(Path::new(name), name)?;
    let file = name.replace('-', "_");
    crate::cli::print(&format!(
        "created {name}/, a plugin with its tests. Next:\n\n  cd {name}\n  cargo test\n  \
         cargo build --release --target wasm32-wasip2\n  \
         wasaba plugin test target/wasm32-wasip2/release/{file}.wasm\n"
    ))
}

fn check(name: &str) -> Result<(), String> {
    let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    if !name.starts_with(|char: char| char.is_ascii_lowercase()) || !name.chars().all(letters) || name.len() > 64 {
        return Err(format!(
            "invalid plugin name {name:?}: it must begin with a lower-case letter, contain only lower-case letters, digits \
             and -, and be at most 64 characters long"
        ));
    }
    // A crate cannot be named like a keyword.
    const KEYWORDS: &str = " as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop match \
                         mod move mut pub ref return self static struct super trait true try type unsafe use where while ";
    if KEYWORDS.contains(&format!(" {name} ")) {
        return Err(format!("invalid plugin name {name:?}: it is a keyword of Rust"));
    }
    if ["alloc", "core", "proc-macro", "std", "test", "wasaba-plugin", "wit-bindgen"].contains(&name) {
        return Err(format!("invalid plugin name {name:?}: it is the name of a crate that every plugin is built with"));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "folders of the author, in a new one of theirs")]
fn write(folder: &Path, name: &str) -> Result<(), String> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("`{}` already exists: choose another name, or remove it", folder.display()),
        _ => format!("cannot create the folder `{}`: {error}", folder.display()),
    })?;
    let fill = |text: &str| {
        text.replace("{name}", name).replace("{file}", &name.replace('-', "_")).replace("{version}", crate::VERSION)
    };
    let own = PLUGIN.iter().map(|(file, text)| ((*file).to_owned(), fill(text)));
    let copied = COPIED.iter().map(|(file, text)| (format!("wasaba/{file}"), (*text).to_owned()));
    for (file, text) in own.chain(copied) {
        let path = folder.join(file);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| own::write_new(&path, text.as_bytes()));
        written.map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    #[test]
    fn every_file_of_the_sdk_and_of_the_contract_is_copied() {
        let mut files = Vec::new();
        for folder in ["plugin-sdk/rust/src", "wit"] {
            let entries = fs::read_dir(format!("{TOP}/{folder}")).unwrap();
            files.extend(entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())));
        }
        files.sort();
        assert_eq!(COPIED.iter().map(|(file, _)| (*file).to_owned()).collect::<Vec<_>>(), files);
    }

    #[test]
    fn the_copied_sdk_has_the_dependencies_of_the_workspaces() {
        let dependencies = |text: &str| {
            let (_, rest) = text.split_once("[dependencies]\n").unwrap();
            rest.split("\n\n").next().unwrap().trim().to_owned()
        };
        let here = fs::read_to_string(format!("{TOP}/plugin-sdk/rust/Cargo.toml")).unwrap();
        assert_eq!(dependencies(&here), "wit-bindgen.workspace = true");
        let workspace = fs::read_to_string(format!("{TOP}/Cargo.toml")).unwrap();
        let line = dependencies(include_str!("template/sdk.toml"));
        assert!(line.starts_with("wit-bindgen = ") && workspace.lines().any(|other| other == line), "{line}");
    }

    #[test]
    fn a_name_that_is_not_valid_for_a_crate_is_refused() {
        for name in ["", "Queue", "9lives", "a/b", "../a", "a b", "test", "-x", "fn", "self"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert_eq!(check("my-queue2"), Ok(()));
    }

    #[test]
    fn nothing_is_written_into_an_existing_folder() {
        let temp = tempfile::tempdir().unwrap();
        assert!(write(temp.path(), "queue").unwrap_err().contains("already exists"));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
