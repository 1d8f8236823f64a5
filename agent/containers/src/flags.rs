//! The command line of the official plugin, `mackerel-plugin-docker -name-format name`, as an engine to be asked.

use std::sync::Arc;

use official::command_line::{Flags, OfficialCommand};
use wasaba_core::setting::{Setting, SettingKind};

use super::Docker;
use super::endpoint::Endpoint;
use super::naming::Naming;

/// What the official plugin's name ends in.
pub const OFFICIAL: &str = "docker";

/// The official plugin's flags; `-tempfile` is every plugin's.
const FLAGS: [&str; 6] = ["host", "name-format", "label", "cpu-format", "method", "command"];

/// The engine that the official plugin would ask with this command line, in the table `[plugin.metrics.TABLE]` with this `env`.
/// `DOCKER_HOST`, which it does not know, counts where there is no `-host`.
///
/// # Errors
/// A flag that it does not have or that means nothing, what only a shell could do, or variables that ask for TLS.
pub fn docker(table: &str, command: &OfficialCommand, env: &[(String, String)]) -> Result<Docker, String> {
    let declared = FLAGS.map(|key| Setting {
        key: key.to_owned(),
        kind: SettingKind::Text,
        default: None,
        required: false,
        repeatable: false,
        help: String::new(),
    });
    let flags = Flags::parse(&declared, &command.arguments);
    let variable = |name: &str| {
        let mut written = env.iter().chain(&command.assignments).rev();
        written.find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    if let Some(why) = command.beyond.map(|beyond| format!("`command` has {beyond}")).or(flags.wrong) {
        return Err(format!("{why}; write a table [docker] in place of this one"));
    }
    let given = |key: &str| flags.settings.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let label = given("label").unwrap_or_default();
    if given("method").is_some_and(|method| !method.is_empty() && method != "API") {
        return Err("-method knows only API; leave it out".to_owned());
    }
    let host = given("host").filter(|host| !host.is_empty()).map(|host| ("-host", host));
    if host.is_none() && variable("DOCKER_HOST").is_some() && variable("DOCKER_TLS_VERIFY").is_some() {
        let table = "write a table [docker] with `host` and `tls` in place of this one";
        return Err(format!(
            "DOCKER_TLS_VERIFY with DOCKER_HOST asks for TLS, which the official plugin does not speak; {table}"
        ));
    }
    let endpoint = match host.or_else(|| Some(("DOCKER_HOST", variable("DOCKER_HOST")?))) {
        Some((name, host)) => Endpoint::parse(host).map_err(|why| format!("{name} {why}"))?,
        None => Endpoint::Usual,
    };
    Ok(Docker {
        name: Arc::from(format!("plugin {table}")),
        endpoint,
        naming: Naming::parse(given("name-format").unwrap_or("name_id"), label)
            .map_err(|why| format!("-name-format {why}"))?,
        // Whatever else it is, is a percentage there.
        cpu_in_nanoseconds: given("cpu-format") == Some("usage"),
        ..Docker::default()
    })
}
