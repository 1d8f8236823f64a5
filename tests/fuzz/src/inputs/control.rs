//! The control socket, of which only the agent's answer is read.

use wasaba::process::state::AgentState;

/// What `wasaba status`, `wasaba health` and `wasaba plugin list` read.
pub fn report(data: &[u8]) {
    let Ok(report) = serde_json::from_slice::<AgentState>(data) else { return };
    let again = serde_json::to_vec(&report).unwrap();
    assert_eq!(serde_json::from_slice::<AgentState>(&again).unwrap(), report);
    let (Ok(line) | Err(line)) = report.judge();
    assert!(!line.is_empty());
}
