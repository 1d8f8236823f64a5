//! What users of the official agent wrote: command lines, expressions, durations, proxies, NO_PROXY.

use official::command::OfficialCommand;
use official::command_line::{CommandLine, Given};
use official::no_proxy::is_direct;
use official::proxy::ProxyAddress;
use official::shell::simple_command;
use wasaba_core::setting::{Setting, SettingKind};

use super::text;

/// A command: as a shell's words, as the line of an official plugin, and as the settings of the component in its place.
pub fn command_line(data: &[u8]) {
    let text = text(data);
    let variable = |name: &str| name.len().is_multiple_of(2).then(|| format!("value of {name}"));
    let command = simple_command(&text, variable);
    let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    let line = command.words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    let again = simple_command(&line, variable);
    assert_eq!((&again.words, again.needs_shell), (&command.words, None), "{line}");

    if let Some(docker) = OfficialCommand::of(&command, "docker", "/nowhere") {
        containers::flags::docker("docker", &docker, &[]).ok();
    }
    let setting = |(key, kind): &(&str, _)| Setting { repeatable: *key == "header", ..Setting::new(*key, *kind) };
    let declared = [
        ("host", SettingKind::Host),
        ("port", SettingKind::Port),
        ("uri", SettingKind::Url),
        ("header", SettingKind::Secret),
        ("password", SettingKind::Secret),
        ("timeout", SettingKind::Duration),
        ("tls", SettingKind::Boolean),
        ("socket", SettingKind::UnixSocket),
        ("sslmode", SettingKind::TlsMode),
    ];
    let declared = declared.iter().map(setting).collect::<Vec<_>>();
    let Some((plugin, line, _)) = CommandLine::of_command(command, &[], variable) else { return };
    drop(line.state_file(&declared));
    let Ok(given) = line.merged_with(Given::default(), plugin, &declared, |_, _| true) else { return };
    for (key, _) in &given.settings {
        let times = given.settings.iter().filter(|(other, _)| other == key).count();
        assert!(times == 1 || key == "header", "{key} is given {times} times");
    }
}

/// An expression on the first line, and names that are matched with it.
pub fn pattern(data: &[u8]) {
    let text = text(data);
    let (expression, names) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(compiled) = official::pattern::compile(expression) {
        for name in names.lines().take(4) {
            compiled.is_match(name.get(..name.floor_char_boundary(255)).unwrap_or_default());
        }
    }
    // What is escaped stands for itself.
    let plain = expression.chars().filter(char::is_ascii).take(60).collect::<String>();
    let escape = |char: char| if char.is_ascii_alphanumeric() { char.to_string() } else { format!("\\{char}") };
    let escaped = official::pattern::compile(&format!("^{}$", plain.chars().map(escape).collect::<String>()));
    assert!(escaped.is_ok_and(|compiled| compiled.is_match(&plain)), "{plain:?}");
}

/// A duration.
pub fn duration(data: &[u8]) {
    if let Some(minutes) = official::duration::minutes(&text(data)) {
        assert!(minutes > 999_999_999_999 || official::duration::minutes(&format!("{minutes}m")) == Some(minutes));
    }
}

/// The address of a proxy: what programs get of it means the same.
pub fn proxy(data: &[u8]) {
    match ProxyAddress::parse(&text(data)) {
        Ok(address) => {
            let again = ProxyAddress::parse(address.escaped.reveal()).unwrap_or_else(|why| panic!("{why}"));
            assert!(again.url == address.url && again.login == address.login, "{}", address.escaped.reveal());
            assert!(!address.url.contains(['@', '#', '\\']) && address.url.ends_with(&address.server));
        }
        Err(why) => assert!(why.len() < 300, "{why}"),
    }
}

/// `NO_PROXY`, a host and a port, a line each.
pub fn no_proxy(data: &[u8]) {
    let text = text(data);
    let mut lines = text.lines();
    let (entries, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let port = lines.next().and_then(|port| port.parse().ok());
    let direct = is_direct(host, port, entries);
    let backwards = entries.split(',').rev().collect::<Vec<_>>().join(",");
    assert_eq!(is_direct(host, port, &backwards), direct, "the order of the entries does not matter");
    assert!(is_direct(host, port, &format!("{entries},*")) && is_direct("127.0.0.1", port, entries));
    assert!(direct || !is_direct(host, port, ""), "no entry makes a direct host another");
}
