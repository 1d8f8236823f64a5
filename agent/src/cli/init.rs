//! `wasaba init`: writes the API key into the configuration, for scripts that set machines up.

use std::fs;
use std::path::Path;

use wasaba_core::paths::own;

use crate::process::log;
use crate::process::log::Destination;

/// Prepends the key, and the API's base URL if it is given, to the file. A file that has a key is not changed.
///
/// # Errors
/// The file is not a valid configuration, or cannot be written.
#[expect(clippy::disallowed_methods, reason = "the operator names the folder that is made")]
pub fn run(file: &Path, key: &str, base: Option<&str>) -> Result<(), String> {
    log::start(tracing::level_filters::LevelFilter::INFO, Destination::Stderr, None)?;
    let shown = file.display();
    if key.is_empty() {
        return Err("no API key to write: pass -apikey=<YOUR_API_KEY>".to_owned());
    }
    config::api_key(key).map_err(|why| format!("-apikey {why}"))?;
    if let Some(base) = base {
        config::api_base(base).map_err(|why| format!("-apibase {why}"))?;
    }
    let before = match config::document::read_file(file) {
        Ok(text) => {
            let (known, _) = config::parse(file, &text).map_err(|problems| super::configuration::texts(&problems))?;
            if known.api_key.is_some() {
                tracing::info!("`{shown}` already has an API key: not changed");
                return Ok(());
            }
            text
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read `{shown}`: {error}")),
    };
    // TOML reads the escapes of JSON.
    let line = |name: &str, value: &str| format!("{name} = {}\n", serde_json::Value::from(value));
    let base = base.map(|base| line("apibase", base)).unwrap_or_default();
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        tracing::info!("creating the folder `{}`", folder.display());
        fs::create_dir_all(folder).map_err(|error| format!("cannot create the folder of `{shown}`: {error}"))?;
    }
    // With the key in it, for no other user; unless the operator made the file for others.
    own::replace(file, format!("{}{base}{before}", line("apikey", key)).as_bytes(), 0o600)
        .map_err(|error| format!("cannot write `{shown}`: {error}"))?;
    tracing::info!("wrote the API key to `{shown}`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_prepended_and_an_existing_one_is_kept() {
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
    fn a_new_file_is_for_its_owner_only_and_an_existing_one_keeps_its_mode_and_is_replaced_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.conf");
        run(&file, "hoge", None).unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        let existing = folder.path().join("old.conf");
        fs::write(&existing, "verbose = true\n").unwrap();
        fs::set_permissions(&existing, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::File::open(&existing).unwrap();
        run(&existing, "hoge", None).unwrap();
        assert_eq!(mode(&existing), 0o640);
        assert_eq!(
            std::io::read_to_string(before).unwrap(),
            "verbose = true\n",
            "a reader sees the old one to its end"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_not_a_configuration_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.conf");
        fs::write(&file, "roles = [\n").unwrap();
        assert!(run(&file, "key", None).unwrap_err().contains("invalid TOML"));
        assert!(run(&folder.path().join("x"), "", None).unwrap_err().contains("-apikey"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "roles = [\n");
    }
}
