//! `wasaba plugin new`: creates a folder with a plugin that builds and passes its tests, and copies of the SDK and the contract as they
//! came with the agent.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::language::Language;

/// Creates the folder `name` in the working directory and prints the next steps.
///
/// # Errors
/// There is no such language, the name is not valid in it, the folder already exists, or it cannot be written.
pub(crate) fn run(language: &str, name: &str) -> Result<(), String> {
    let language = Language::named(language)?;
    check(language, name)?;
    write(Path::new(name), language, name)?;
    println!(
        "created {name}/, a plugin in {} with its tests. Next:\n\n  cd {name}\n  wasaba plugin build\n  wasaba plugin test\n\n\
         `wasaba plugin dev` does both whenever a file changes, and shows what would be posted. README.md says more.",
        language.name
    );
    Ok(())
}

fn check(language: &Language, name: &str) -> Result<(), String> {
    let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let is_valid = name.starts_with(|char: char| char.is_ascii_lowercase()) && name.chars().all(letters);
    if !is_valid || name.len() > 64 || name.ends_with('-') {
        return Err(format!(
            "invalid plugin name {name:?}: it must begin with a lower-case letter, contain only lower-case letters, digits \
             and -, not end with -, and be at most 64 characters long"
        ));
    }
    match language.reserved.iter().find(|(_, names)| names.contains(&name)) {
        Some((what, _)) => Err(format!("invalid plugin name {name:?}: it is {what}")),
        None => Ok(()),
    }
}

fn write(folder: &Path, language: &Language, name: &str) -> Result<(), String> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("`{}` already exists: choose another name, or remove it", folder.display()),
        _ => format!("cannot create the folder `{}`: {error}", folder.display()),
    })?;
    let fill = |text: &str| {
        let text = text.replace("{name}", name).replace("{ident}", &name.replace('-', "_"));
        text.replace("{version}", env!("CARGO_PKG_VERSION"))
    };
    let copied = language.copied().map(|(path, content)| (format!("wasaba/{path}"), content.to_vec()));
    // After the copied ones: a template may replace a file of the SDK that only its own folder here can use.
    let own = language.template().map(|(path, content)| match std::str::from_utf8(content) {
        Ok(text) => (fill(path), fill(text).into_bytes()),
        Err(_) => (fill(path), content.to_vec()),
    });
    for (path, content) in copied.chain(own) {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::ALL;

    #[test]
    fn a_name_that_no_language_or_just_this_one_cannot_have_is_refused() {
        let rust = Language::named("rust").unwrap();
        for name in ["", "Queue", "9lives", "a/b", "../a", "a b", "test", "-x", "x-", "fn", "self"] {
            assert!(check(rust, name).is_err(), "{name}");
        }
        assert_eq!(check(rust, "my-queue2"), Ok(()));
        assert_eq!(check(Language::named("go").unwrap(), "fn"), Ok(()));
    }

    #[test]
    fn nothing_is_written_into_an_existing_folder() {
        let temp = tempfile::tempdir().unwrap();
        assert!(write(temp.path(), &ALL[0], "queue").unwrap_err().contains("already exists"));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_guide_shows_the_code_of_a_new_plugin() {
        let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins.md")).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("queue");
        write(&folder, &ALL[0], "queue").unwrap();
        let code = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        assert!(guide.contains(&format!("```rust\n{code}```\n")), "docs/plugins.md does not show\n{code}");
    }

    #[test]
    fn the_name_is_filled_in_everywhere() {
        for language in ALL {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().join("my-queue");
            write(&folder, language, "my-queue").unwrap();
            for (path, _) in language.template() {
                let path = folder.join(path.replace("{name}", "my-queue").replace("{ident}", "my_queue"));
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                for blank in ["{name}", "{ident}", "{version}", "{file}"] {
                    assert!(!text.contains(blank), "{}: {blank} in {}", language.name, path.display());
                }
            }
        }
    }
}
