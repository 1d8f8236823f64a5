//! The command line of the official plugin, `mackerel-plugin-docker -name-format name`, as an engine to query.

use std::sync::Arc;

use official::command::OfficialCommand;
use official::command_line::with_unset;
use official::flags::Flags;
use wasaba_core::setting::{Setting, SettingKind};

use super::Docker;
use super::endpoint::Endpoint;
use super::naming::Naming;

/// The official plugin's name.
pub const OFFICIAL: &str = "docker";

/// The official plugin's flags, besides `-tempfile`.
const FLAGS: [&str; 6] = ["host", "name-format", "label", "cpu-format", "method", "command"];

/// The engine that the official plugin would query with this command line, in the table `[plugin.metrics.TABLE]` with this `env`.
/// Without `-host`, `DOCKER_HOST` counts, which the official plugin does not read.
///
/// # Errors
/// Each invalid flag or value, something that needs a shell, or variables that ask for TLS.
pub fn docker(table: &str, command: &OfficialCommand, env: &[(String, String)]) -> Result<Docker, String> {
    const CURE: &str = "write a [docker] table instead of this one";
    let declared = FLAGS.map(|key| Setting::new(key, SettingKind::Text));
    let flags = Flags::parse(&declared, &command.arguments);
    let variable = |name: &str| {
        let mut written = env.iter().chain(&command.assignments).rev();
        written.find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    // What a shell runs may set them before.
    let unset = if command.unsupported.is_some() { &[] } else { &*command.unset };
    let error = with_unset(flags.error(), unset);
    let of_line = command.unsupported.iter().map(|what| format!("`command` has {what}")).chain(error);
    let mut errors = of_line.collect::<Vec<_>>();
    let needs_table = !errors.is_empty();
    let given = |key: &str| {
        let known = flags.settings.iter().filter(|_| !flags.is_unknown(key));
        known.rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    };
    if given("method").is_some_and(|method| !method.is_empty() && method != "API") {
        errors.push("-method supports only API; remove it".to_owned());
    }
    let host = given("host").filter(|host| !host.is_empty()).map(|host| ("-host", host));
    let has_tls = host.is_none() && variable("DOCKER_HOST").is_some() && variable("DOCKER_TLS_VERIFY").is_some();
    if has_tls {
        let why = "DOCKER_TLS_VERIFY with DOCKER_HOST requests TLS, which the official plugin does not support";
        errors.push(format!("{why}; write a [docker] table with `host` and `tls` instead of this one"));
    }
    let of_environment = || Some(("DOCKER_HOST", variable("DOCKER_HOST").filter(|_| !flags.is_unknown("host"))?));
    let endpoint = match host.or_else(of_environment) {
        Some((name, host)) => Endpoint::parse(host).map_err(|why| errors.push(format!("{name} {why}"))).ok(),
        None => Some(Endpoint::Default),
    };
    // Without the value of -label, which is said already.
    let label = given("label").unwrap_or(if flags.is_unknown("label") { "..." } else { "" });
    let naming = Naming::parse(given("name-format").unwrap_or("name_id"), label);
    let naming = naming.map_err(|why| errors.push(format!("-name-format {why}"))).ok();
    if needs_table && !has_tls {
        errors.push(CURE.to_owned());
    }
    match (endpoint, naming) {
        (Some(endpoint), Some(naming)) if errors.is_empty() => Ok(Docker {
            name: Arc::from(format!("plugin {table}")),
            endpoint,
            naming,
            // The official plugin takes any other word for a percentage.
            cpu_in_nanoseconds: given("cpu-format") == Some("usage"),
            ..Docker::default()
        }),
        _ => Err(errors.join("; ")),
    }
}
