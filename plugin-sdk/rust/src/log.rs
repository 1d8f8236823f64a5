//! Lines in the agent's log. For what is no error: an error is returned, and the agent logs it.

use crate::bindings::wasaba::plugin::log::{Level, log};

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
