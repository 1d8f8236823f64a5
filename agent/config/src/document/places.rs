//! What can be read of a text that is not valid TOML.

use std::path::PathBuf;

use toml::de::DeTable;

/// Where an agent is that runs with a configuration from before the text was broken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Its folder.
    pub root: Option<PathBuf>,
    /// Its pid file.
    pub pidfile: Option<PathBuf>,
    /// Whether a line sets the root, to a path that cannot be read.
    pub hides_root: bool,
}

impl Places {
    /// Those in a broken text: each line above its tables is read alone, since one that is broken can swallow those after it.
    #[must_use]
    pub fn of_broken(text: &str) -> Self {
        let mut places = Self::default();
        for line in text.lines().take_while(|line| !line.trim_start().starts_with('[')) {
            let table = DeTable::parse(line).ok();
            let text = |key: &str| table.as_ref()?.get_ref().get(key)?.get_ref().as_str();
            let path = |key: &str| text(key).filter(|path| !path.is_empty()).map(PathBuf::from);
            places.hides_root |= sets_root(line) && text("root").is_none();
            places.root = path("root").or(places.root);
            places.pidfile = path("pidfile").or(places.pidfile);
        }
        places
    }
}

/// Whether the first word of a line is the key of the root, whatever is wrong with the rest.
fn sets_root(line: &str) -> bool {
    let rest = line.trim_start().trim_start_matches(['"', '\'']).strip_prefix("root");
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || "_-.".contains(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_the_pid_file_are_found_wherever_else_the_text_is_broken() {
        let own = "root = \"/r\"\npidfile = '/p' # here\n";
        let expected = Places { root: Some("/r".into()), pidfile: Some("/p".into()), hides_root: false };
        for broken in ["apikey = \"k", "roles = [\"a\"", "nonsense", "a = = 1", "apikey = \"k\"\napikey = \"l\""] {
            assert_eq!(Places::of_broken(&format!("{own}{broken}\n")), expected, "{broken}");
            assert_eq!(Places::of_broken(&format!("{broken}\n{own}")), expected, "{broken}");
        }
        assert_eq!(Places::of_broken(&format!("{own}[plugin.metrics\n")), expected);
        for other in [format!("[plugin\n{own}"), "root = \"\"\n= 1\n".to_owned(), "roots = \"/r\n".to_owned()] {
            assert_eq!(Places::of_broken(&other), Places::default(), "{other}");
        }
    }

    #[test]
    fn a_root_that_is_set_but_cannot_be_read_is_not_taken_for_none() {
        for line in ["root = \"/r", "  \"root\" = /r", "root \"/r\"", "root: /r", "root", "root = 5"] {
            let places = Places::of_broken(&format!("{line}\npidfile = '/p'\n"));
            assert!(places.hides_root && places.root.is_none() && places.pidfile.is_some(), "{line}");
        }
    }
}
