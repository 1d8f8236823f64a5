//! `wasaba health`: whether the agent with this root does its work; for a container's health check.

use super::flags::AgentFlags;
use crate::process::control;

/// A minute is collected once a minute; one that is late has hung. A start takes seconds.
const LATEST_SECONDS: i64 = 150;

/// Asks the running agent.
///
/// # Errors
/// There is none, or it has collected nothing for too long.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let config = flags.config_for_command()?;
    let report = control::ask(&config.root)?;
    let said = judge(report.collected, jiff::Timestamp::now().as_second())?;
    super::print(&format!("{said}\n"))
}

fn judge(collected: i64, now: i64) -> Result<String, String> {
    let age = now.saturating_sub(collected);
    if age > LATEST_SECONDS {
        Err(format!("the agent has collected nothing for {age} s"))
    } else {
        Ok(format!("the agent is well; it last collected {} s ago", age.max(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_has_missed_two_minutes_is_not_well() {
        assert!(judge(1_000, 1_150).is_ok_and(|said| said.contains("150 s ago")));
        assert!(judge(1_000, 1_151).is_err_and(|why| why.contains("151 s")));
        assert!(judge(1_000, 990).is_ok(), "a clock that was set back");
    }
}
