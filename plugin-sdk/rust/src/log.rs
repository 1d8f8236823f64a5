//! Lines in the agent's log, for what is not an error: errors are returned, and the agent logs them. Each function is also a macro that
//! formats: `log::info!("{count} jobs")`. In native tests [`testing::Host`](crate::testing::Host) has the lines; without one nothing is logged.

use crate::agent::log as wire;
use crate::bindings::wasaba::plugin::log::Level;
use crate::kv;

#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_info as info, __log_warning as warning, __log_warning_daily as warning_daily,
};

fn write(level: Level, line: &str) {
    wire::write(level, line);
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

/// The time in seconds since 1970.
#[cfg(target_family = "wasm")]
#[expect(clippy::disallowed_methods, reason = "a plugin has only WASI's clock")]
fn now() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time in seconds since 1970, as the host of the tests has it.
#[cfg(not(target_family = "wasm"))]
fn now() -> u64 {
    crate::call::minute()
}

/// Like [`warning()`], but at most once a day for each `topic`: for problems that persist until the operator acts.
pub fn warning_daily(topic: &str, line: impl AsRef<str>) {
    const DAY: u64 = 24 * 60 * 60;
    let now = now();
    let key = format!("warned: {topic}");
    let last = kv::get(&key).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    // If the clock was set back, it counts as another day.
    if last.is_none_or(|last| now.checked_sub(last).is_none_or(|seconds| seconds >= DAY)) {
        warning(line);
        // If the store is full, the next call warns again: too often is better than not at all.
        kv::set(&key, now.to_le_bytes()).ok();
    }
}

/// [`debug`](fn@crate::log::debug) with a formatted line.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($line:tt)*) => {
        $crate::log::debug(::std::format!($($line)*))
    };
}

/// [`info`](fn@crate::log::info) with a formatted line.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($line:tt)*) => {
        $crate::log::info(::std::format!($($line)*))
    };
}

/// [`warning`](fn@crate::log::warning) with a formatted line.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warning {
    ($($line:tt)*) => {
        $crate::log::warning(::std::format!($($line)*))
    };
}

/// [`warning_daily`](fn@crate::log::warning_daily) with a formatted line.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warning_daily {
    ($topic:expr, $($line:tt)*) => {
        $crate::log::warning_daily($topic, ::std::format!($($line)*))
    };
}
