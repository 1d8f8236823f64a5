//! `wasaba retire`: retires this host in Mackerel and removes the id file.

use std::io::{IsTerminal, Write};

use delivery::mackerel;

use super::flags::AgentFlags;
use crate::run;

/// Retires the host, after confirmation on the terminal or with `force`.
///
/// # Errors
/// There is no host, it was not confirmed, or Mackerel refused or did not answer.
pub fn run(flags: &AgentFlags, force: bool) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let key = config.api_key.clone().ok_or(super::NO_API_KEY)?;
    let id = mackerel::own_id(&config.root).map_err(|error| error.to_string())?;
    if !force && !is_confirmed(&format!("Retire host `{id}` of {}?", config.api_base.host_str().unwrap_or_default())) {
        return Err("not retired: confirmation required (answer `y`, or pass -force)".to_owned());
    }
    let runtime = super::runtime()?;
    let agent = run::agent();
    let client = mackerel::Client::new(config.api_base.as_str(), key, &agent, &run::route(&config.network));
    let client = client.map_err(|error| error.to_string())?;
    let retired = runtime.block_on(mackerel::retire(&client, &config.root, &id));
    retired.map_err(|error| format!("cannot retire host `{id}`: {error}"))?;
    tracing::info!("retired host `{id}`");
    Ok(())
}

/// Without a terminal there is no confirmation.
fn is_confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    let mut stdout = std::io::stdout();
    let asked = write!(stdout, "{question} [y/N] ").and_then(|()| stdout.flush());
    let mut answer = String::new();
    asked.is_ok()
        && std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
