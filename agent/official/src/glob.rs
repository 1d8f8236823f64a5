//! Patterns of file names as Go's `filepath.Glob` reads them.

use std::iter::Peekable;
use std::path::PathBuf;
use std::str::Chars;

/// The files that `pattern` names, in the order of their names; none is not an error.
///
/// # Errors
/// An invalid pattern, or a folder that cannot be read; as the predicate of a sentence.
pub fn files(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let files = glob::glob(&translated(pattern)).map_err(|error| format!("is not a valid file pattern: {error}"))?;
    files
        .map(|file| {
            file.map_err(|error| {
                let is_closed = wasaba_core::confinement::files::is_closed(error.path());
                let cure =
                    if is_closed { ": the agent dropped the right to read there at its start: restart it" } else { "" };
                format!("leads to a folder that cannot be read: {error}{cure}")
            })
        })
        .collect()
}

/// `pattern` in the syntax of the crate `glob`: there `!` negates a class and not `^`, `**` has a meaning of its own, and a
/// backslash does not escape.
fn translated(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut is_class = false;
    while let Some(char) = rest.next() {
        match char {
            ']' if is_class => is_class = false,
            '[' if !is_class => {
                is_class = true;
                written.push_str(class_begin(&mut rest));
                continue;
            }
            '*' if !is_class => while rest.next_if_eq(&'*').is_some() {},
            '\\' => {
                let Some(next) = rest.next() else { continue };
                match is_class {
                    true => written.push(next),
                    false => written.push_str(&glob::Pattern::escape(&next.to_string())),
                }
                continue;
            }
            _ => {}
        }
        written.push(char);
    }
    written
}

fn class_begin(rest: &mut Peekable<Chars<'_>>) -> &'static str {
    if rest.next_if_eq(&'^').is_some() {
        return "[!";
    }
    // With a character in front that is in no file name, `!` is one like any other.
    if rest.peek() == Some(&'!') { "[\0" } else { "[" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_the_files_that_it_names_in_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.conf", "b.conf", "!.conf", "*.conf", "deep/d.conf"] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        for (pattern, expected) in [
            ("*.conf", "!.conf *.conf a.conf b.conf"),
            ("**.conf", "!.conf *.conf a.conf b.conf"),
            ("**/*.conf", "deep/d.conf"),
            ("[^b]*.conf", "!.conf *.conf a.conf"),
            ("[^a-b].conf", "!.conf *.conf"),
            ("[!b].conf", "!.conf b.conf"),
            ("[ab].conf", "a.conf b.conf"),
            ("\\*.conf", "*.conf"),
            ("?.conf", "!.conf *.conf a.conf b.conf"),
            ("none*", ""),
        ] {
            let files = files(&format!("{}/{pattern}", folder.path().display())).unwrap();
            let names = files.iter().map(|file| file.strip_prefix(folder.path()).unwrap().to_str().unwrap());
            assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{pattern}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        assert!(files("/[a").unwrap_err().starts_with("is not a valid file pattern: "));
    }
}
