//! The languages of `wasaba plugin new`, and the files of their SDKs.

/// A language for plugins.
#[derive(Debug)]
pub(crate) struct Language {
    /// Its name as a value of `--lang`.
    pub(crate) name: &'static str,
    /// The folder of its SDK in `plugin-sdk`; two languages may share one.
    sdk: &'static str,
    /// The folder with the new plugin's files, in that of the SDK.
    template: &'static str,
    /// Names that a plugin cannot have, with what they are.
    pub(crate) reserved: &'static [(&'static str, &'static [&'static str])],
}

/// All of them; the first one is the default.
pub(crate) const ALL: &[Language] = &[
    Language { name: "rust", sdk: "rust", template: "template", reserved: RUST },
    Language { name: "python", sdk: "python", template: "template", reserved: &[] },
    Language { name: "javascript", sdk: "javascript", template: "template", reserved: &[] },
    Language { name: "typescript", sdk: "javascript", template: "template-typescript", reserved: &[] },
    Language { name: "go", sdk: "go", template: "template", reserved: &[] },
    Language { name: "c", sdk: "c", template: "template", reserved: &[] },
    Language { name: "cpp", sdk: "c", template: "template-cpp", reserved: &[] },
];

const RUST: &[(&str, &[&str])] = &[
    (
        "a keyword of Rust",
        &[
            "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
            "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
            "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "unsafe", "use", "where",
            "while",
        ],
    ),
    (
        "the name of a crate that every plugin is built with",
        &[
            "alloc",
            "core",
            "proc-macro",
            "serde",
            "std",
            "test",
            "wasaba-plugin",
            "wasaba-plugin-derive",
            "wit-bindgen",
        ],
    ),
];

/// Every file of the SDKs, by its path in `plugin-sdk`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

impl Language {
    /// The language of this name.
    ///
    /// # Errors
    /// There is none: the message lists all.
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        let names = || ALL.iter().map(|language| language.name).collect::<Vec<_>>().join(", ");
        ALL.iter()
            .find(|language| language.name == name)
            .ok_or_else(|| format!("unknown language {name:?}: plugins are written in {}", names()))
    }

    /// The files of a new plugin: the path in its folder, with `{name}` and the like still in it, and the content.
    pub(crate) fn template(&self) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        let folder = format!("{}/{}/", self.sdk, self.template);
        FILES.iter().filter_map(move |(path, content)| {
            let path = path.strip_prefix(&*folder)?;
            Some((path.strip_suffix(".in").unwrap_or(path), *content))
        })
    }

    /// The files of its SDK and of the contract, as they are copied into the folder `wasaba` of a new plugin.
    pub(crate) fn copied(&self) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        let is_copied = |path: &str| {
            let folder = path.split('/').nth(1).unwrap_or_default();
            !(folder.starts_with("template") || matches!(folder, "tests" | "test" | "generate.sh"))
        };
        let folder = format!("{}/", self.sdk);
        FILES.iter().copied().filter(move |(path, _)| path.starts_with(&folder) && is_copied(path))
    }
}

/// The contract: the names of its files, and their content.
pub(crate) fn contract() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(|(path, content)| Some((path.strip_prefix("rust/wit/")?, *content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_template_with_its_manifest_and_cases_and_an_sdk() {
        for language in ALL {
            let files = language.template().map(|(path, _)| path).collect::<Vec<_>>();
            for file in ["plugin.toml", "tests.toml", "README.md", ".gitignore"] {
                assert!(files.contains(&file), "{}: no {file} in {files:?}", language.name);
            }
            assert!(language.copied().count() > 3, "{}", language.name);
            assert!(language.copied().all(|(path, _)| !path.contains("template")), "{}", language.name);
        }
    }

    #[test]
    fn the_copied_crates_of_rust_have_the_dependencies_and_features_of_the_sdk() {
        let text = |path: &str| {
            let (_, content) = FILES.iter().find(|(name, _)| *name == path).unwrap_or_else(|| panic!("no {path}"));
            std::str::from_utf8(content).unwrap().parse::<toml::Table>().unwrap()
        };
        let workspace = include_str!("../../../Cargo.toml").parse::<toml::Table>().unwrap();
        for (sdk, template) in [
            ("rust/Cargo.toml", "rust/template/wasaba/rust/Cargo.toml.in"),
            ("rust/derive/Cargo.toml", "rust/template/wasaba/rust/derive/Cargo.toml.in"),
        ] {
            let (mut sdk, mut copy) = (text(sdk), text(template));
            for (name, dependency) in sdk["dependencies"].as_table_mut().unwrap() {
                if dependency.get("workspace").is_some() {
                    *dependency = workspace["workspace"]["dependencies"][name].clone();
                }
            }
            // Beside each other in the copy, in the workspace as it has them.
            for table in [&mut sdk, &mut copy] {
                let dependencies = table["dependencies"].as_table_mut().unwrap();
                dependencies.insert("wasaba-plugin-derive".to_owned(), true.into());
            }
            assert_eq!(sdk["dependencies"], copy["dependencies"], "{template}");
            assert_eq!(sdk.get("features"), copy.get("features"), "{template}");
        }
    }

    #[test]
    fn an_unknown_language_is_refused_with_those_that_exist() {
        let why = Language::named("cobol").unwrap_err();
        assert_eq!(
            why,
            "unknown language \"cobol\": plugins are written in rust, python, javascript, typescript, go, c, cpp"
        );
    }
}
