//! Lines in the agent's log. For what is no error: an error is returned, and the agent logs it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::wasaba::plugin::log::{Level, log};
use crate::kv;

/// A line that is shown only when the agent runs verbosely.
pub fn debug(line: impl AsRef<str>) {
    log(Level::Debug, line.as_ref());
}

/// A line that is always shown.
pub fn info(line: impl AsRef<str>) {
    log(Level::Info, line.as_ref());
}

/// Something that the operator should look at, while the values are still right.
pub fn warning(line: impl AsRef<str>) {
    log(Level::Warning, line.as_ref());
}

/// As [`warning`], but about one `topic` only once a day: for what stays as it is until the operator does something.
pub fn warning_daily(topic: &str, line: impl AsRef<str>) {
    const DAY: u64 = 24 * 60 * 60;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let key = format!("warned: {topic}");
    let last = kv::get(&key).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    // A clock that was set back counts as another day.
    if last.is_none_or(|last| now.checked_sub(last).is_none_or(|seconds| seconds >= DAY)) {
        warning(line);
        // If there is no room, it is said again in the next call: too often is better than not at all.
        kv::set(&key, now.to_le_bytes()).ok();
    }
}
