//! `wasaba init`: a configuration with the API key in it, for scripts that set machines up.

use std::fs;
use std::path::Path;

use crate::process::log;
use crate::process::log::Destination;

/// Puts the key, and the API's base if it is given, in front of what is in the file. One that has a key stays as it is.
///
/// # Errors
/// The file is no configuration, or cannot be written.
pub fn run(file: &Path, key: &str, base: Option<&str>) -> Result<(), String> {
    log::start(tracing::level_filters::LevelFilter::INFO, Destination::Stderr);
    let shown = file.display();
    if key.is_empty() {
        return Err("there is no API key to write; give one by -apikey=<YOUR_API_KEY>".to_owned());
    }
    if let Some(base) = base {
        config::api_base(base).map_err(|why| format!("-apibase {why}"))?;
    }
    let before = match config::document::read_file(file) {
        Ok(text) => {
            let (known, _) = config::parse(file, &text).map_err(|problems| super::flags::texts(&problems))?;
            if known.api_key.is_some() {
                tracing::info!("`{shown}` has an API key already and stays as it is");
                return Ok(());
            }
            text
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read `{shown}`: {error}")),
    };
    // What JSON escapes, TOML reads.
    let line = |name: &str, value: &str| format!("{name} = {}\n", serde_json::Value::from(value));
    let base = base.map(|base| line("apibase", base)).unwrap_or_default();
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder of `{shown}`: {error}"))?;
    }
    fs::write(file, format!("{}{base}{before}", line("apikey", key)))
        .map_err(|error| format!("cannot write `{shown}`: {error}"))?;
    tracing::info!("the API key is in `{shown}` now");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_put_in_front_and_one_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/agent.conf");
        run(&file, "hoge", None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "apikey = \"hoge\"\n");
        run(&file, "other", None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "apikey = \"hoge\"\n");
        fs::write(&file, "# mine\nverbose = true\n").unwrap();
        run(&file, "a\"b", Some("https://kcps-mackerel.io")).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (config, _) = config::parse(&file, &text).unwrap();
        assert_eq!(config.api_key.unwrap().reveal(), "a\"b");
        assert!(text.ends_with("apibase = \"https://kcps-mackerel.io\"\n# mine\nverbose = true\n"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_configuration_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.conf");
        fs::write(&file, "roles = [\n").unwrap();
        assert!(run(&file, "key", None).unwrap_err().contains("this is no TOML"));
        assert!(run(&folder.path().join("x"), "", None).unwrap_err().contains("-apikey"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "roles = [\n");
    }
}
