//! Lines in the agent's log, for what is not an error: errors are returned, and the agent logs them. In native unit tests there is no
//! agent, and nothing is logged.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::wasaba::plugin::log as wire;
use crate::bindings::wasaba::plugin::log::Level;
use crate::kv;

fn write(level: Level, line: &str) {
    if cfg!(target_family = "wasm") {
        wire::write(level, line);
    }
}

/// A line that is logged only if the agent is verbose.
pub fn debug(line: impl AsRef<str>) {
    write(Level::Debug, line.as_ref());
}

/// A line that is always logged.
pub fn info(line: impl AsRef<str>) {
    write(Level::Info, line.as_ref());
}

/// A problem that the operator should look into, although the values are still correct.
pub fn warning(line: impl AsRef<str>) {
    write(Level::Warning, line.as_ref());
}

/// Like [`warning`], but at most once a day for each `topic`: for problems that persist until the operator acts.
pub fn warning_daily(topic: &str, line: impl AsRef<str>) {
    const DAY: u64 = 24 * 60 * 60;
    #[expect(clippy::disallowed_methods, reason = "a plugin has only WASI's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let key = format!("warned: {topic}");
    let last = kv::get(&key).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    // If the clock was set back, it counts as another day.
    if last.is_none_or(|last| now.checked_sub(last).is_none_or(|seconds| seconds >= DAY)) {
        warning(line);
        // If the store is full, the next call warns again: too often is better than not at all.
        kv::set(&key, now.to_le_bytes()).ok();
    }
}
