//! A plugin's description and settings, what they grant, and what is asked for against them.

use plugins::settings::{ResolvedSettings, validate};
use sandbox::capabilities::grants::{Grants, Origin, has_user};
use sandbox::load::check_description;
use url::Url;
use wasaba_core::setting::{Description, Reach, Setting, SettingKind, SettingValue};

use super::{PLANTED, assert_short, text};

/// A plugin that describes itself, and a table for it: `name NAME`, `attribute KEY VALUE`, `setting KEY KIND DEFAULT MORE...`,
/// `set KEY VALUE`, `allow ENTRY`, `reach WORD`.
pub fn settings(data: &[u8]) {
    let text = text(data);
    let mut about = Description { name: "web".into(), ..Description::default() };
    let mut table = ResolvedSettings { place: "[plugin.metrics.web]".into(), ..ResolvedSettings::default() };
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["name", name] => about.name = (*name).to_owned(),
            ["attribute", key, value] => about.attributes.push(((*key).to_owned(), (*value).to_owned())),
            ["setting", key, kind, default, more @ ..] => {
                let Some(kind) = SettingKind::of_word(kind) else { continue };
                let default = Some((*default).to_owned()).filter(|default| !default.is_empty());
                about.settings.push(more.iter().fold(Setting { default, ..Setting::new(*key, kind) }, with));
            }
            ["set", key, value] => table.given.settings.push(((*key).to_owned(), (*value).to_owned())),
            ["allow", entry] => table.allow.push((*entry).to_owned()),
            ["reach", word] => {
                about.reach.add(word);
            }
            _ => {}
        }
    }
    if let Err(why) = check_description(&about) {
        assert_short(&why.to_string(), 1_024);
        return;
    }
    let kind = |key: &str| about.settings.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    for (key, value) in &mut table.given.settings {
        match kind(key) {
            Some(SettingKind::Secret) => PLANTED.clone_into(value),
            Some(SettingKind::Url) => *value = value.replace("PASSWORD", PLANTED),
            _ => {}
        }
    }
    match validate(&about.settings, about.reach, &table) {
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(
                problems.iter().all(|problem| !format!("{problem:?}").contains(PLANTED)),
                "shows a secret: {problems:?}"
            );
        }
        Ok(validated) => {
            let is_written = |key: &str| table.given.settings.iter().any(|(name, _)| name == key);
            let written = about.settings.iter().any(|setting| is_written(&setting.key)) || !table.allow.is_empty();
            // Without a word of the operator it reaches one page of this machine, at most.
            let origins = &validated.grants.origins;
            assert!(written || origins.len() <= 1 && origins.iter().all(|origin| origin.is_loopback()), "{origins:?}");
            assert!(written || validated.grants.sockets.is_empty() && validated.grants.files.is_empty());
            for (key, value) in &validated.values {
                match value {
                    SettingValue::Secret(_) => assert_eq!(kind(key), Some(SettingKind::Secret), "{key}"),
                    SettingValue::Text(text) => {
                        assert_ne!(kind(key), Some(SettingKind::Secret), "{key}");
                        assert!(kind(key) != Some(SettingKind::Url) || !has_user(text), "a plugin sees a user: {text}");
                    }
                }
            }
            origins.iter().for_each(assert_readable);
        }
    }
}

fn with(setting: Setting, word: &&str) -> Setting {
    match word.split_once('=').unwrap_or((word, "")) {
        ("required", _) => Setting { required: true, ..setting },
        ("repeatable", _) => Setting { repeatable: true, ..setting },
        ("port-of", key) => Setting { port_of: Some(key.to_owned()), ..setting },
        ("help", help) => Setting { help: help.to_owned(), ..setting },
        ("alias", alias) => {
            let mut setting = setting;
            setting.aliases.extend(alias.split_once(':').map(|(word, mode)| (word.to_owned(), mode.to_owned())));
            setting
        }
        _ => setting,
    }
}

/// What a person reads of an origin is that origin.
fn assert_readable(origin: &Origin) {
    let shown = origin.to_string();
    let again = if origin.is_for_http() { Origin::of_url(&shown) } else { Origin::of_endpoint(&shown) };
    assert_eq!(again.as_ref(), Ok(origin), "{shown}");
}

/// Entries of `allow`, and what a plugin asks for: `allow ENTRY`, `url URL`, `host HOST PORT`, `socket PATH`, `file PATH`.
pub fn grants(data: &[u8]) {
    let text = text(data);
    let lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect::<Vec<_>>();
    let mut grants = Grants { reach: Reach::ALL, place: "[plugin.metrics.web]".into(), ..Grants::default() };
    for line in &lines {
        let ["allow", entry] = line.as_slice() else { continue };
        let number = |grants: &Grants| grants.origins.len() + grants.sockets.len() + grants.files.len();
        let before = number(&grants);
        let added = usize::from(grants.allow(entry).is_ok());
        assert_eq!(number(&grants), before + added, "an entry grants one thing, or is refused: {entry}");
    }
    grants.origins.iter().for_each(assert_readable);
    let is_granted = |host: &str, port: u16| {
        let wanted = format!("{}:{port}", host.strip_suffix('.').unwrap_or(host));
        let shown = grants.origins.iter().map(ToString::to_string);
        shown.into_iter().any(|shown| shown.rsplit("://").next() == Some(wanted.as_str()))
    };
    let is_plain =
        |path: &str| path.starts_with('/') && path.split('/').skip(1).all(|part| !["", ".", ".."].contains(&part));
    for line in &lines {
        match line.as_slice() {
            ["url", url] => {
                let Ok(url) = Url::parse(url) else { continue };
                if grants.check_url(&url).is_ok() {
                    let (host, port) = (url.host_str().unwrap(), url.port_or_known_default().unwrap());
                    assert!(is_granted(host, port), "{url} is not granted by {:?}", grants.origins);
                    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
                }
            }
            ["host", host, port] => {
                let Ok(port) = port.parse() else { continue };
                if let Ok(granted) = grants.check_host(host, port) {
                    assert!(
                        is_granted(&granted.to_string(), port),
                        "{host}:{port} is not granted by {:?}",
                        grants.origins
                    );
                }
            }
            ["socket", path] if grants.check_socket(path).is_ok() => assert!(is_plain(path), "{path}"),
            ["file", path] if grants.check_file(path).is_ok() => assert!(is_plain(path), "{path}"),
            _ => {}
        }
    }
}

/// A header of a plugin's request: the name on the first line, the value behind it.
pub fn header(data: &[u8]) {
    let text = text(data);
    let (name, value) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok((name, value)) = sandbox::capabilities::header(name, value) else { return };
    let belongs_to_connection = ["connection", "content-length", "transfer-encoding", "upgrade", "te", "expect"];
    assert!(!belongs_to_connection.contains(&name.as_str()), "{name}");
    assert!(!name.as_str().contains(|char: char| char.is_whitespace() || char == ':'), "{name}");
    assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)), "{value:?}");
}
