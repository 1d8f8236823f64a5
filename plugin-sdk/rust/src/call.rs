//! The call itself, and the agent that makes it.

use std::time::Duration;

use crate::agent::call as wire;

/// How much time is left until the call times out.
#[must_use]
pub fn remaining() -> Duration {
    Duration::from_millis(wire::remaining_ms())
}

/// The minute that the call is for, in seconds since 1970.
#[must_use]
pub fn minute() -> u64 {
    wire::minute()
}

/// A limit of the instance by its name in the operator's table, such as `samples`. `None` if the agent has no such limit.
#[must_use]
pub fn limit(name: &str) -> Option<u64> {
    wire::limit(name)
}

/// The agent's version.
#[must_use]
pub fn agent_version() -> String {
    wire::agent_version()
}

/// Whether the agent has a capability (`tcp`), or what came to one later (`tcp.is-local`).
#[must_use]
pub fn has(feature: &str) -> bool {
    wire::has(feature)
}
