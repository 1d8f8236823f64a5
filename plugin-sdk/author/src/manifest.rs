//! `plugin.toml`: how a plugin is built. The language is known to this file alone, so any that makes WebAssembly can be used.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file's name.
pub(crate) const FILE: &str = "plugin.toml";

/// How a plugin is built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The plugin's name; the component is `NAME.wasm` beside this file.
    pub(crate) name: String,
    /// For the reader alone.
    #[serde(default)]
    #[expect(dead_code, reason = "nothing depends on the language")]
    language: String,
    /// The command that compiles it, for `sh`.
    pub(crate) build: String,
    /// The command that runs its native tests, for `sh`.
    pub(crate) test: Option<String>,
    /// The core module that `build` makes, if it is one.
    module: Option<PathBuf>,
    /// The component that `build` makes, if it is one.
    component: Option<PathBuf>,
    /// What `build` needs.
    #[serde(default, rename = "tool")]
    pub(crate) tools: Vec<Tool>,
}

/// Something that must be installed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// A program on PATH.
    pub(crate) program: String,
    /// A command for `sh` that fails if the tool cannot do what is needed, such as compile for WebAssembly.
    pub(crate) check: Option<String>,
    /// The command that installs it, or where it is found.
    pub(crate) install: String,
    /// The versions that work.
    pub(crate) version: Option<String>,
}

/// What the build makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Made<'a> {
    /// A core module, which is made a component.
    Module(&'a Path),
    /// A component.
    Component(&'a Path),
}

impl Manifest {
    /// Reads the file in `folder`.
    ///
    /// # Errors
    /// It is missing or invalid; the message says what to do.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| {
            format!("cannot read `{}`: {error}; `wasaba plugin new` makes a folder with a plugin", path.display())
        })?;
        Self::parse(&text).map_err(|why| format!("`{}`: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        let letters = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
        if manifest.name.is_empty() || manifest.name.len() > 64 || !manifest.name.chars().all(letters) {
            return Err(format!("invalid name {:?}: it has 1 to 64 letters, digits, - and _", manifest.name));
        }
        manifest.made()?;
        Ok(manifest)
    }

    /// What the build makes.
    ///
    /// # Errors
    /// Not exactly one of the two keys is there.
    pub(crate) fn made(&self) -> Result<Made<'_>, String> {
        match (&self.module, &self.component) {
            (Some(path), None) => Ok(Made::Module(path)),
            (None, Some(path)) => Ok(Made::Component(path)),
            _ => Err("write either `module`, the core module that `build` makes, or `component`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_twice_or_unknown_is_named_with_its_line() {
        let good = "name = \"queue\"\nbuild = \"make\"\n";
        let parse = |rest: &str| Manifest::parse(&format!("{good}{rest}")).map(drop).unwrap_err();
        assert_eq!(parse(""), "write either `module`, the core module that `build` makes, or `component`");
        assert_eq!(parse("module = \"a\"\ncomponent = \"b\"\n"), parse(""));
        let unknown = parse("module = \"a\"\nmodul = \"b\"\n");
        assert!(unknown.starts_with("line 4: unknown field `modul`"), "{unknown}");
        let missing = Manifest::parse("build = \"make\"\nmodule = \"a\"\n").unwrap_err();
        assert!(missing.ends_with("missing field `name`"), "{missing}");
        let name = Manifest::parse("name = \"../x\"\nbuild = \"make\"\nmodule = \"a\"\n").unwrap_err();
        assert!(name.starts_with("invalid name \"../x\""), "{name}");
        let tool = parse("module = \"a\"\n[[tool]]\nprogram = \"go\"\n");
        assert!(tool.ends_with("missing field `install`"), "{tool}");
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = "name = \"queue\"\nlanguage = \"go\"\nbuild = \"go build\"\ntest = \"go test\"\nmodule = \"build/core.wasm\"\n\
                    [[tool]]\nprogram = \"go\"\nversion = \">= 1.24\"\ninstall = \"apt-get install golang-go\"\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.made(), Ok(Made::Module(Path::new("build/core.wasm"))));
        assert_eq!((manifest.tools.len(), manifest.test.as_deref()), (1, Some("go test")));
    }
}
