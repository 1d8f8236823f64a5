//! Small values that an instance keeps from call to call. What a call sets is saved when the call succeeds. In native tests
//! [`testing::Host`](crate::testing::Host) keeps them; without one nothing is kept.

use std::time::Duration;

use crate::Error;
use crate::agent::kv as wire;

/// The value of `key`, if there is one.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    wire::get(key)
}

/// Sets the value of `key`.
///
/// # Errors
/// The store is full, or the key is empty or too long.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    Ok(wire::set(key, value.as_ref(), None)?)
}

/// Sets the value of `key`, which is gone after this time.
///
/// # Errors
/// As [`set`].
pub fn set_for(key: &str, value: impl AsRef<[u8]>, time: Duration) -> Result<(), Error> {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(wire::set(key, value.as_ref(), Some(millis))?)
}

/// Deletes `key`, if it is there.
pub fn delete(key: &str) {
    wire::delete(key);
}

/// All keys that begin with `prefix`, sorted.
#[must_use]
pub fn keys(prefix: &str) -> Vec<String> {
    wire::keys(prefix)
}

/// How much each of these counters has grown since the previous call, for values that are computed from several of them, such as
/// a ratio. `None` in the first call, and when a counter was reset, as by a restart of its server.
///
/// # Errors
/// As [`set`].
pub fn growth<const N: usize>(key: &str, now: [u64; N]) -> Result<Option<[u64; N]>, Error> {
    let before = get(key);
    set(key, now.map(u64::to_le_bytes).concat())?;
    Ok(before.and_then(|before| grown(&before, now)))
}

fn grown<const N: usize>(before: &[u8], now: [u64; N]) -> Option<[u64; N]> {
    let mut before = before.chunks(8).map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes));
    let growth = now.map(|now| now.checked_sub(before.next()??));
    let growth = growth.iter().copied().collect::<Option<Vec<_>>>()?;
    growth.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_growth_if_a_counter_was_reset_or_the_counters_are_others() {
        let before = [5_u64, 7].map(u64::to_le_bytes).concat();
        assert_eq!(grown(&before, [6, 7]), Some([1, 0]));
        assert_eq!(grown(&before, [6, 6]), None);
        assert_eq!(grown(&before, [6, 7, 8]), None);
        assert_eq!(grown(b"abc", [6, 7]), None);
    }
}
