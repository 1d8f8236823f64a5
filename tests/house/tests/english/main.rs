//! The language of every text that a user reads: messages, help, documents and golden files contain no banned phrase.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking, with the reason")]

mod literals;
mod phrases;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

/// The repository.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Every text that a user reads: the file, the line that the text begins on, and the text.
fn texts() -> Vec<(String, usize, String)> {
    let mut texts = Vec::new();
    let files = files();
    for file in files.iter().filter(|file| is_document(file)) {
        texts.push((file.display().to_string(), 1, read(file)));
    }
    let sources = files.iter().filter(|file| is_source(file)).map(|file| (file, literals::literals(&read(file))));
    let sources = sources.collect::<Vec<_>>();
    let test_files =
        sources.iter().flat_map(|(file, found)| files_of(file, &found.test_modules)).collect::<BTreeSet<_>>();
    for (file, found) in sources.into_iter().filter(|(file, _)| !test_files.contains(*file)) {
        texts.extend(found.literals.into_iter().map(|(line, text)| (file.display().to_string(), line, text)));
    }
    for file in files.iter().filter(|file| file.starts_with("plugin-sdk") && is_source(file)) {
        texts.push((file.display().to_string(), 1, documentation(&read(file))));
    }
    let rust = TESTED.iter().flat_map(|folder| walked(Path::new(folder)));
    for file in rust.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let names = test_names(&read(&file)).into_iter();
        texts.extend(names.map(|(line, name)| (file.display().to_string(), line, name)));
    }
    help(&wasaba::cli::flags::Line::command(), "wasaba", &mut texts);
    texts
}

/// The folders with tests.
const TESTED: [&str; 4] = ["agent", "plugin-sdk", "plugins", "tests"];

/// The documentation in a file of Rust, with the other lines empty, so that lines can be counted.
fn documentation(source: &str) -> String {
    let text = |line: &str| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        format!("{}\n", text.unwrap_or_default())
    };
    source.lines().map(text).collect()
}

/// The names of the tests in a file of Rust as sentences, each with its line.
fn test_names(source: &str) -> Vec<(usize, String)> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for (index, line) in source.lines().enumerate() {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name =
            line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        if let Some(name) = name {
            if is_test {
                names.push((index + 1, name.replace('_', " ")));
            }
            is_test = false;
        }
    }
    names
}

/// The help of a command and of those below it.
fn help(command: &clap::Command, name: &str, texts: &mut Vec<(String, usize, String)>) {
    texts.push((format!("help of `{name}`"), 1, command.clone().render_long_help().to_string()));
    for command in command.get_subcommands() {
        help(command, &format!("{name} {}", command.get_name()), texts);
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(Path::new(TOP).join(file)).unwrap()).into_owned()
}

/// All files below a folder of the repository, by their paths in it.
fn walked(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(TOP).join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() != "target" => folders.push(path),
                true => {}
                false => files.push(path),
            }
        }
    }
    files
}

/// All files of the folders that have texts for users, by their paths in the repository.
fn files() -> Vec<PathBuf> {
    let mut files = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"].map(PathBuf::from).to_vec();
    for folder in ["agent", "docs", "examples", "plugin-sdk", "plugins", "tests/e2e/golden", "tests/fixtures", "wit"] {
        files.extend(walked(Path::new(folder)));
    }
    files.sort();
    files
}

/// Pages, the manual of the contract, the default configuration, golden files, which record what is printed, what `plugin new` writes,
/// and what packages and the image are made of.
fn is_document(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    if file.starts_with("agent/packaging") || file.extension().is_some_and(|extension| extension == "in") {
        return true;
    }
    let is_page = name.ends_with(".md") && !file.starts_with("tests") || name.ends_with(".wit");
    let is_golden = file.parent().is_some_and(|folder| folder.ends_with("golden")) || name.starts_with("golden.");
    is_page || is_golden || name == "default.conf"
}

/// Source of what is shipped.
fn is_source(file: &Path) -> bool {
    let is_in_src = file.components().any(|part| part.as_os_str() == "src");
    is_in_src && file.extension().is_some_and(|extension| extension == "rs")
}

/// The files of the modules that `file` declares.
fn files_of(file: &Path, modules: &[String]) -> Vec<PathBuf> {
    let folder = match file.file_stem().unwrap().to_str().unwrap() {
        "lib" | "main" | "mod" => file.parent().unwrap().to_owned(),
        _ => file.with_extension(""),
    };
    modules.iter().flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]).collect()
}

#[test]
fn of_the_sdk_the_documentation_is_read_and_of_tests_the_names() {
    assert_eq!(documentation("//! One.\nfn f() {}\n    /// Two.\n// no\n"), " One.\n\n Two.\n\n");
    let source = "fn f() {}\n#[test]\nfn it_is_so() {\n}\n    #[tokio::test]\n    #[ignore]\n    async fn and_so() {\nfn g() {}\n";
    assert_eq!(test_names(source), [(3, "it is so".to_owned()), (7, "and so".to_owned())]);
}

#[test]
fn no_text_for_users_contains_a_banned_phrase() {
    let texts = texts();
    let files = texts.iter().map(|(file, ..)| file.as_str()).collect::<BTreeSet<_>>();
    for file in [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "agent/config/src/default.conf",
        "agent/config/src/golden/broken.txt",
        "agent/packaging/systemd/wasaba.service",
        "agent/src/cli/retire.rs",
        "docs/plugins.md",
        "examples/mastodon/README.md",
        "help of `wasaba plugin run`",
        "plugin-sdk/rust/src/tcp.rs",
        "plugin-sdk/rust/template/src/lib.rs.in",
        "plugins/nginx/src/lib.rs",
        "tests/e2e/golden/help.txt",
        "tests/fixtures/machine/golden.host.json",
        "wit/types.wit",
    ] {
        assert!(files.contains(file), "{file} is not read");
    }
    let of_tests = texts.iter().filter(|(file, ..)| file.ends_with("src/metrics/tests.rs"));
    assert!(of_tests.into_iter().all(|(.., text)| !text.contains(['\n', '_'])), "of tests only the names are read");
    let mut failures = Vec::new();
    for (file, begin, text) in &texts {
        for (line, found, phrase) in phrases::banned_in(text) {
            failures.push(format!("{file}:{}: \"{found}\"; write {}", begin + line - 1, phrase.better));
        }
    }
    assert!(failures.is_empty(), "{} banned phrases:\n{}", failures.len(), failures.join("\n"));
}
