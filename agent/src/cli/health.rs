//! `wasaba health`: whether the running agent is working; for a container's health check.
//!
//! It works if it collects, and if it delivers or has only just begun to fail: see [`AgentState::judge`].

use super::flags::AgentFlags;
use crate::process::control;
#[cfg(doc)]
use crate::process::state::AgentState;

/// Asks the running agent.
///
/// # Errors
/// No agent is running, it has not collected for too long, or nothing was delivered for too long; with the cure.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let text = control::ask(&config.root)?.judge()?;
    super::print(&format!("{text}\n"))
}
