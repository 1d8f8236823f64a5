//! `wasaba health`: whether the running agent is working; for a container's health check.
//!
//! It works if it collects, and if it delivers or has only just begun to fail: see [`AgentState::judge`].

use super::configuration::Whereabouts;
use super::flags::AgentFlags;
use crate::process::{control, log};
#[cfg(doc)]
use show::state::AgentState;

/// Asks the running agent.
///
/// # Errors
/// No agent is running, it has not collected for too long, or nothing was delivered for too long; with the cure.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let Whereabouts { root, pidfile, wrong } = flags.whereabouts()?;
    let judged = control::ask(&root, &pidfile).and_then(|state| {
        let judged = state.judge()?;
        Ok(state.confinement.map_or(judged.clone(), |confinement| format!("{judged}\n{confinement}")))
    });
    if let Some(wrong) = wrong {
        log::print(&format!("{wrong}\n"));
    }
    super::print(&format!("{}\n", judged?))
}
