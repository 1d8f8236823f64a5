//! `wasaba health`: whether the running agent is working; for a container's health check.

use wasaba_core::clock;

use super::flags::AgentFlags;
use crate::process::control;

/// The oldest that the last collection may be. The agent collects once a minute, and takes seconds to start.
const MAX_AGE_SECONDS: i64 = 150;

/// Asks the running agent.
///
/// # Errors
/// No agent is running, or it has not collected for too long.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let report = control::ask(&config.root)?;
    let text = judge(report.collected, clock::unix_seconds())?;
    super::print(&format!("{text}\n"))
}

fn judge(collected: i64, now: i64) -> Result<String, String> {
    let age = now.saturating_sub(collected);
    if age > MAX_AGE_SECONDS {
        Err(format!("the agent is not working: it has not collected for {age} s"))
    } else {
        Ok(format!("the agent is working: it last collected {} s ago", age.max(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_has_missed_two_minutes_is_not_working() {
        assert!(judge(1_000, 1_150).is_ok_and(|text| text.contains("150 s ago")));
        assert!(judge(1_000, 1_151).is_err_and(|why| why.contains("151 s")));
        assert!(judge(1_000, 990).is_ok(), "the clock was set back");
    }
}
