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
}

impl Places {
    /// Those in a broken text: each line above its tables is read alone, since one that is broken can swallow those after it.
    #[must_use]
    pub fn of_broken(text: &str) -> Self {
        let mut places = Self::default();
        for line in text.lines().take_while(|line| !line.trim_start().starts_with('[')) {
            let Ok(table) = DeTable::parse(line) else { continue };
            let path = |key: &str| {
                let path = table.get_ref().get(key)?.get_ref().as_str()?;
                (!path.is_empty()).then(|| PathBuf::from(path))
            };
            places.root = path("root").or(places.root);
            places.pidfile = path("pidfile").or(places.pidfile);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_the_pid_file_are_found_wherever_else_the_text_is_broken() {
        let own = "root = \"/r\"\npidfile = '/p' # here\n";
        let expected = Places { root: Some("/r".into()), pidfile: Some("/p".into()) };
        for broken in ["apikey = \"k", "roles = [\"a\"", "nonsense", "a = = 1", "apikey = \"k\"\napikey = \"l\""] {
            assert_eq!(Places::of_broken(&format!("{own}{broken}\n")), expected, "{broken}");
            assert_eq!(Places::of_broken(&format!("{broken}\n{own}")), expected, "{broken}");
        }
        assert_eq!(Places::of_broken(&format!("{own}[plugin.metrics\n")), expected);
        for other in [format!("[plugin\n{own}"), "root = 5\n= 1\n".to_owned(), "root = \"\"\n= 1\n".to_owned()] {
            assert_eq!(Places::of_broken(&other), Places::default(), "{other}");
        }
    }
}
