//! `wasaba retire`: Mackerel is told that this host is no more, and the id file goes.

use std::io::{IsTerminal, Write};

use delivery::mackerel;

use super::flags::AgentFlags;
use crate::run;

/// Asks whether it is meant, unless it is forced, and retires the host. What is no terminal cannot say yes.
///
/// # Errors
/// There is no host, nobody said yes, or Mackerel did not do it.
pub fn run(flags: &AgentFlags, force: bool) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let key =
        config.api_key.clone().ok_or("there is no `apikey` in the configuration, and none was given by -apikey")?;
    let id = mackerel::own_id(&config.root).map_err(|error| error.to_string())?;
    if !force && !is_meant(&format!("Retire host `{id}` of {}?", config.api_base.host_str().unwrap_or_default())) {
        return Err("not retired: nobody said yes; -force does not ask".to_owned());
    }
    let runtime = super::runtime()?;
    let agent = run::agent();
    let client = mackerel::Client::new(config.api_base.as_str(), key, &agent, &run::route(&config.network));
    let client = client.map_err(|error| error.to_string())?;
    let retired = runtime.block_on(mackerel::retire(&client, &config.root, &id));
    retired.map_err(|error| format!("cannot retire host `{id}`: {error}"))?;
    tracing::info!("host `{id}` is retired");
    Ok(())
}

fn is_meant(question: &str) -> bool {
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
